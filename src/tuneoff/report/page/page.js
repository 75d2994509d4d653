"use strict";
const words = document.getElementById("words");
const arm = document.getElementById("weak");
const found = document.getElementById("found");
const articles = [...document.querySelectorAll("article")];
const texts = articles.map((article) => article.textContent.toLowerCase());

function filter() {
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  articles.forEach((article, n) => {
    const shown = wanted.every((word) => texts[n].includes(word)) && (!arm.value || article.dataset.worst === arm.value);
    article.hidden = !shown;
    count += shown;
  });
  found.textContent = `${count} of ${articles.length} ${found.dataset.noun}`;
}
if (words) {
  words.addEventListener("input", filter);
  arm.addEventListener("change", filter);
  filter();
}

// Whatever scrolls can be reached by the keyboard; what does not is no stop.
function stops() {
  document.querySelectorAll(".scroll, .said").forEach((part) => {
    const scrolls = part.scrollWidth > part.clientWidth || part.scrollHeight > part.clientHeight;
    if (scrolls) part.tabIndex = 0;
    else part.removeAttribute("tabindex");
  });
}
window.addEventListener("resize", stops);
document.addEventListener("toggle", stops, true);
stops();
window.addEventListener("beforeprint", () => document.querySelectorAll("details.printed").forEach((part) => { part.open = true; }));
