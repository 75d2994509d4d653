"use strict";
const EVERY = 3000; // milliseconds between two questions
const now = document.getElementById("now");
const trouble = document.getElementById("trouble");

async function renew() {
  try {
    const answer = await fetch("/now");
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    const text = await answer.text();
    if (text !== renew.shown) {
      now.innerHTML = renew.shown = text;
      const name = answer.headers.get("X-Run");
      document.getElementById("title").textContent = decodeURIComponent(name);
      document.title = `${now.querySelector(".state").textContent} – ${decodeURIComponent(name)}`;
    }
    trouble.hidden = true;
  } catch (error) {
    trouble.textContent = `Not up to date: ${error.message}. Is tuneoff watch still running?`;
    trouble.hidden = false;
  }
  setTimeout(renew, EVERY);
}
renew();
