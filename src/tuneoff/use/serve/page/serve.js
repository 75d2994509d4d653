"use strict";
// Text of models and data is only ever put in as text: never as HTML.
const at = (id) => document.getElementById(id);
let about = null; // what /api/arms says
let picked = null; // the example that stands in the fields
let running = null; // aborts the requests of the last Write

function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const number = (value) => value.toLocaleString("en");
const areas = () => [...document.querySelectorAll("textarea")];

async function ask(path, body, signal) {
  const sent = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal };
  let response;
  try {
    response = await fetch(path, sent);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is tuneoff serve still running?");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    const refused = new Error(answer.error || `The server answered ${response.status}.`);
    refused.ours = response.status === 413 || response.status === 422; // the input is at fault, whatever the arm
    throw refused;
  }
  return answer;
}

function showRefusal(text) {
  at("refused").textContent = text;
  at("refused").hidden = !text;
}

function showFields() {
  for (const column of about.columns) {
    const field = element("div", "", { class: "field" });
    const area = element("textarea", "", { id: `column-${column}`, name: column, dir: "auto", spellcheck: "false" });
    area.classList.toggle("long", column === about.input);
    area.addEventListener("input", changed);
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("form").requestSubmit();
    });
    field.append(element("label", column, { for: area.id }), area);
    at("fields").append(field);
  }
}

function showExamples(examples) {
  for (const example of examples) {
    const button = element("button", "", { type: "button", "aria-pressed": "false" });
    button.append(element("span", example.row[about.input], { dir: "auto" }));
    for (const reference of example.references) button.append(element("span", reference, { class: "soft", dir: "auto" }));
    button.addEventListener("click", () => pick(example, button));
    const item = element("li");
    item.append(button);
    at("examples").append(item);
  }
}

function press(button) {
  for (const other of at("examples").querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
}

function pick(example, button) {
  for (const area of areas()) area.value = example.row[area.name] ?? ""; // an older run has the input's column alone
  changed();
  picked = example;
  press(button);
}

function changed() {
  picked = null; // its references are those of another text now
  press(null);
  const most = about.limits.characters;
  const long = areas().filter((area) => [...area.value].length > most);
  at("go").disabled = long.length > 0 || areas().some((area) => area.name === about.input && !area.value.trim());
  showRefusal(long.map((area) => `${area.name} has ${number([...area.value].length)} characters; at most ${number(most)} are taken.`).join(" "));
}

function card(title, note, colour) {
  const article = element("article", "", { "aria-label": title });
  article.style.setProperty("--own", colour);
  const head = element("h3", title);
  head.append(element("span", note, { class: "soft" }));
  article.append(head);
  return article;
}

function showWritten(article, answer) {
  const cut = answer.prompt_tokens - answer.read_tokens;
  if (answer.prompt_truncated) {
    const words = `Too long: the model read ${number(answer.read_tokens)} of ${number(answer.prompt_tokens)} tokens. ` +
      `The last ${number(cut)} of the text were cut off, as in the trial.`;
    article.append(element("p", words, { class: "cut" }));
  }
  const text = element("p", answer.text, { class: "text", dir: "auto" });
  if (!answer.text) text.append(element("span", "(empty)", { class: "soft" }));
  if (answer.truncated) text.append(element("span", ` (cut off at ${number(answer.tokens)} tokens)`, { class: "soft" }));
  const costs = element("dl", "", { class: "costs" });
  const rows = {
    time: `${answer.seconds.toFixed(2)} s` + (answer.batch > 1 ? ` (with ${answer.batch - 1} more)` : ""),
    waited: `${answer.waited_seconds.toFixed(2)} s`,
    tokens: `${number(answer.read_tokens)} read, ${number(answer.tokens)} written`,
  };
  for (const [name, value] of Object.entries(rows)) costs.append(element("dt", name), element("dd", value));
  article.append(text, costs);
}

async function write(arm, row, article, signal) {
  const waiting = element("p", "writing…", { class: "text" });
  article.append(waiting);
  article.setAttribute("aria-busy", "true");
  try {
    const answer = await ask("/api/generate", { rows: [row], arms: [arm.name] }, signal);
    showWritten(article, answer.rows[0][arm.name]);
  } catch (error) {
    if (error.ours) throw error;
    article.append(element("p", error.name === "AbortError" ? "stopped" : error.message, { class: "text bad" }));
  } finally {
    waiting.remove();
    article.removeAttribute("aria-busy");
  }
}

async function submit(event) {
  event.preventDefault();
  if (at("go").disabled) return;
  if (running) running.abort();
  const own = (running = new AbortController());
  const row = Object.fromEntries(areas().map((area) => [area.name, area.value]));
  showRefusal("");
  at("empty").hidden = true;
  at("results").replaceChildren();
  const begun = about.arms.map((arm, n) => {
    const note = arm.trainable ? `${arm.method}, ${number(arm.trainable)} trained` : "not trained";
    const article = card(arm.name, note, `var(--c${n % 8})`);
    at("results").append(article);
    return write(arm, row, article, own.signal);
  });
  for (const reference of picked ? picked.references : []) {
    const article = card("reference", "from the data", "var(--line)");
    article.append(element("p", reference, { class: "text", dir: "auto" }));
    at("results").append(article);
  }
  at("status").textContent = `writing with ${begun.length} arms…`;
  const failed = (await Promise.allSettled(begun)).find((one) => one.status === "rejected");
  if (own !== running) return; // a later Write has taken over
  at("status").textContent = failed ? "" : "done";
  if (failed) {
    at("results").replaceChildren();
    at("empty").hidden = false;
    showRefusal(failed.reason.message);
  }
}

async function begin() {
  try {
    about = await ask("/api/arms");
    document.title = `${about.run}: side by side`;
    at("title").textContent = `${about.run}: the arms, side by side`;
    const missing = about.unfinished.length ? ` Not finished, so not here: ${about.unfinished.join(", ")}.` : "";
    const held = `${number(Math.ceil(about.weights_bytes / 2 ** 20))} MiB of weights`;
    at("about").textContent =
      `${about.model}: ${about.arms.map((arm) => arm.name).join(", ")}, in ${held}. ` +
      `A model reads at most ${number(about.max_source_length)} tokens and writes at most ${number(about.max_new_tokens)}.${missing}`;
    showFields();
    at("form").addEventListener("submit", submit);
    showExamples(await ask("/api/examples"));
  } catch (error) {
    at("about").textContent = "";
    showRefusal(error.message);
  }
}
begin();
