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

// Charts that are chosen by their axes.
document.querySelectorAll(".choice").forEach((block) => {
  const axes = [...block.querySelectorAll("select")];
  const choose = () => block.querySelectorAll("figure").forEach((figure) => {
    figure.hidden = axes.some((axis) => axis.value && figure.dataset[axis.dataset.axis] !== axis.value);
  });
  axes.forEach((axis) => axis.addEventListener("change", choose));
  block.querySelector(".controls").hidden = false;
  choose();
});

// A table sorts by the column whose head is pressed: largest first, then smallest first. Rows without a figure come last.
document.querySelectorAll("table.sorted").forEach((table) => {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].slice(1).forEach((head, n) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      [...head.parentElement.cells].forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => (row.cells[n + 1].dataset.key === "" ? NaN : Number(row.cells[n + 1].dataset.key));
      const order = (a, b) => isNaN(key(a)) - isNaN(key(b)) || (down ? key(b) - key(a) : key(a) - key(b)) || 0;
      body.append(...[...body.rows].sort(order));
    });
  });
});

// Whatever scrolls can be reached by the keyboard; what does not is no stop.
function stops() {
  document.querySelectorAll(".scroll, .said, pre").forEach((part) => {
    const scrolls = part.scrollWidth > part.clientWidth || part.scrollHeight > part.clientHeight;
    if (scrolls) part.tabIndex = 0;
    else part.removeAttribute("tabindex");
  });
}
window.addEventListener("resize", stops);
document.addEventListener("toggle", stops, true);
stops();
window.addEventListener("beforeprint", () => document.querySelectorAll("details.printed").forEach((part) => { part.open = true; }));
