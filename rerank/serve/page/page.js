// The page asks the server that it came from, and nobody else. Texts are put in as text, never as markup.
"use strict";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const state = { models: [], relevance: null, sent: null, tab: "curl", lit: null };

/* ---- small things ---- */

/** An element with attributes and children; `text` is its text. */
function make(tag, attributes = {}, ...children) {
  const drawn = ["svg", "path", "rect", "circle", "line", "text", "title"].includes(tag);
  const element = drawn ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const number = (value, digits = 4) => Number(value).toLocaleString("en", { maximumSignificantDigits: digits }).replace("-", "−");
const plural = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;

function share(value) {
  if (value > 0 && value < 0.001) return "<0.001";
  return value < 1 && value > 0.999 ? ">0.999" : value.toFixed(3);
}

/** The documents in the field: parted by blank lines, or one a line. */
function documents() {
  const text = $("documents").value.replace(/\r/g, "");
  const parts = /\n\s*\n/.test(text.trim()) ? text.split(/\n\s*\n/) : text.split("\n");
  return parts.map((part) => part.trim()).filter(Boolean);
}

async function ask(path, body) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  if ($("key").value) headers.Authorization = `Bearer ${$("key").value}`;
  const response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  const found = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(found.message || found.detail || found.error?.message || found.error || `HTTP ${response.status}`);
  return found;
}

function complain(error) {
  $("error").hidden = !error;
  $("error").textContent = error ? String(error.message || error) : "";
}

/* ---- what is served ---- */

async function models() {
  const found = await ask("/v1/models");
  state.models = found.data;
  const options = () => state.models.map((model) => make("option", { value: model.id, text: model.id }));
  $("model").replaceChildren(...options());
  $("other").replaceChildren(make("option", { value: "", text: "nothing" }), ...options());
  $("serving").textContent = state.models.length
    ? `${plural(state.models.length, "reranker")} on ${location.host}`
    : "The models are being loaded …";
  if (!state.models.length) setTimeout(() => models().catch(complain), 1500);
}

async function collections() {
  const found = await ask("/ui/collections");
  state.collections = found.collections;
  for (const each of found.collections) $("collection").append(make("option", { value: each.name, text: each.name }));
}

function offerQueries() {
  const chosen = state.collections.find((each) => each.name === $("collection").value);
  const queries = chosen ? chosen.queries : [];
  const first = make("option", { value: "", text: chosen ? `${plural(queries.length, "query").replace("querys", "queries")}: pick one` : "pick a collection first" });
  $("collection-query").replaceChildren(first, ...queries.map((query) => make("option", { value: query.query_id, text: query.text })));
  $("collection-query").disabled = !chosen;
}

async function takeQuery() {
  if (!$("collection-query").value) return;
  const place = [$("collection").value, $("collection-query").value].map(encodeURIComponent).join("/");
  $("status").textContent = "Retrieving …";
  const found = await ask(`/ui/collections/${place}`);
  $("query").value = found.query;
  $("documents").value = found.documents.map((each) => each.text.replace(/\n\s*\n/g, "\n")).join("\n\n");
  counted();
  state.relevance = { of: $("documents").value, grades: found.documents.map((each) => each.relevance) };
  $("status").textContent = `${plural(found.documents.length, "document")} by BM25, best first.`;
}

function counted() {
  $("count").textContent = plural(documents().length, "document");
}

/* ---- asking ---- */

function request(model) {
  const body = { query: $("query").value.trim(), documents: documents(), model };
  if ($("long").value) body.long_documents = $("long").value;
  if ($("window").value) body.window_tokens = Number($("window").value);
  if ($("instruction").value) body.instruction = $("instruction").value;
  return body;
}

async function rerank(event) {
  event.preventDefault();
  complain("");
  const chosen = [...new Set([$("model").value, $("other").value].filter(Boolean))];
  const texts = documents();
  if (!texts.length) return complain("There is no document to rank.");
  busy(true);
  try {
    const requests = chosen.map(request);
    const answers = await Promise.all(requests.map((body) => ask("/ui/explain", body)));
    state.sent = requests[0];
    show(texts, answers);
  } catch (error) {
    complain(error);
    $("status").textContent = "";
  } finally {
    busy(false);
  }
}

function busy(is) {
  $("go").disabled = is;
  $("go").textContent = is ? "Reranking …" : "Rerank";
  if (is) $("status").textContent = "Reranking …";
}

/* ---- before and after ---- */

function show(texts, answers) {
  const grades = state.relevance && state.relevance.of === $("documents").value ? state.relevance.grades : [];
  const before = { index: new Map(texts.map((_, index) => [index, index])), element: beforeColumn(texts, grades) };
  const columns = [before, ...answers.map((answer) => afterColumn(texts, grades, answer))];
  const parts = columns.flatMap((column, place) => (place ? [gutter(place > 1), column.element] : [column.element]));
  $("columns").style.setProperty("--gutters", columns.length - 1);
  $("columns").replaceChildren(...parts);
  $("methods").replaceChildren(...answers.map((answer) => method(texts, answer)));
  for (const id of ["results", "how", "take"]) $(id).hidden = false;
  code();
  $("status").textContent = answers.map((answer) => said(texts, answer)).join("\n");
  fold();
  draw();
}

function said(texts, answer) {
  const moved = answer.results.filter((result, rank) => result.index !== rank).length;
  const first = answer.results.length ? `first is document ${answer.results[0].index + 1}` : "none is kept";
  return `${answer.model}: ${plural(texts.length, "document")} in ${number(answer.seconds, 2)} s, ${moved} moved, ${first}.`;
}

function column(title, note, cards) {
  return make("div", { class: "column" }, make("h3", { text: title }), make("p", { class: "note", text: note }), make("ol", {}, ...cards));
}

function beforeColumn(texts, grades) {
  const cards = texts.map((text, index) => card({ text, index, rank: index + 1, grade: grades[index] }));
  return column("Before", "The order in which the documents came.", cards);
}

const MEANING = {
  calibrated: "Calibrated probability of relevance.",
  logit: "Relevance: the sigmoid of the score.",
  "log-probability": "Relevance: the model’s probability.",
  probability: "Relevance: the model’s probability.",
  "rank only": "An order; documents have no scores.",
};

function afterColumn(texts, grades, answer) {
  const cards = answer.results.map((result, place) =>
    card({ text: texts[result.index], index: result.index, rank: place + 1, grade: grades[result.index], result, scores: answer.scores, after: true }),
  );
  return {
    index: new Map(answer.results.map((result, place) => [result.index, place])),
    element: column(answer.model, MEANING[answer.scores] || answer.scores, cards),
  };
}

function card({ text, index, rank, grade, result, scores, after }) {
  const parts = marked(text, result && result.passage);
  const body = make("p", {}, ...parts);
  const facts = make("div", { class: "facts" });
  if (after) facts.append(movement(index + 1, rank));
  if (result && scores !== "rank only") facts.append(...measured(result));
  if (grade !== undefined && grade !== null) facts.append(make("span", { class: "judged", text: `judged ${grade}` }));
  const element = make("li", { class: "card", "data-index": index }, make("span", { class: "rank", text: rank }), make("div", {}, body, facts));
  facts.append(toggle(element, rank));
  if (parts.length > 1) excerpt(element, body);
  return element;
}

function movement(was, is) {
  if (was === is) return make("span", { class: "moved", text: "stays" });
  const up = is < was;
  const steps = Math.abs(was - is);
  const spoken = make("span", { class: "hidden", text: `${up ? "up" : "down"} ${steps}, from rank ${was}` });
  return make("span", { class: `moved ${up ? "up" : "down"}` }, make("span", { "aria-hidden": "true", text: `${up ? "↑" : "↓"} ${steps}` }), spoken);
}

function measured(result) {
  const value = Math.min(1, Math.max(0, result.relevance_score));
  const bar = make("svg", { class: "meter", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, make("rect", { width: value * 100, height: 10 }));
  const shown = [bar, make("span", {}, make("span", { class: "hidden", text: "relevance " }), share(result.relevance_score))];
  if (result.measured !== null) shown.push(make("span", { text: `score ${number(result.measured)}` }));
  return shown;
}

/** A text with the passage that scored best marked, where it stands in it word for word. */
function marked(text, passage) {
  const flat = (part) => part.trim().split(/\s+/).join(" ");
  if (!passage || flat(passage) === flat(text)) return [text];
  const pattern = flat(passage).split(" ").map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("\\s+");
  const found = text.match(new RegExp(pattern));
  if (!found) return [text];
  const end = found.index + found[0].length;
  return [text.slice(0, found.index), make("mark", { text: found[0], title: "the passage that scored best" }), text.slice(end)];
}

/** What stands in front of the passage is left out while the text is folded, so that the passage is seen. */
function excerpt(element, body) {
  const before = body.firstChild.textContent;
  const start = before.split(/\s+/).slice(-4).join(" ");
  if (start.length < before.length) body.firstChild.replaceWith(make("span", { class: "whole", text: before }), make("span", { class: "part", text: `… ${start}` }));
  element.classList.add("found");
}

function toggle(element, rank) {
  const button = make("button", { type: "button", class: "toggle", "aria-expanded": "false", "aria-label": `all of rank ${rank}`, text: "all" });
  button.addEventListener("click", () => {
    const open = element.classList.toggle("open");
    button.setAttribute("aria-expanded", String(open));
    button.textContent = open ? "less" : "all";
    draw();
  });
  return button;
}

/** A button to unfold a text is there where something is folded. */
function fold() {
  for (const facts of document.querySelectorAll(".facts")) facts.hidden = false;
  for (const element of document.querySelectorAll(".card")) {
    const text = element.querySelector("p");
    const button = element.querySelector(".toggle");
    const open = element.classList.contains("open");
    button.textContent = open ? "less" : "all";
    button.setAttribute("aria-expanded", String(open));
    button.hidden = !open && !element.querySelector(".part") && text.scrollHeight <= text.clientHeight + 1;
    button.parentNode.hidden = button.hidden && button.parentNode.childElementCount === 1;
  }
}

/* ---- lines between columns ---- */

/** Between two rerankers the lines tell no rise and no fall: those are counted from what was before. */
function gutter(between) {
  return make("div", { class: between ? "gutter plain" : "gutter", "aria-hidden": "true" }, make("svg"));
}

function draw() {
  for (const between of document.querySelectorAll(".gutter")) {
    const svg = between.firstChild;
    const box = between.getBoundingClientRect();
    if (!box.width) continue;
    const cards = (side) => [...side.querySelectorAll(".card")];
    const right = new Map(cards(between.nextSibling).map((element, rank) => [element.dataset.index, { element, rank }]));
    const middle = (element) => { const at = element.getBoundingClientRect(); return at.top + Math.min(at.height / 2, 30) - box.top; };
    const lines = cards(between.previousSibling).flatMap((element, rank) => {
      const there = right.get(element.dataset.index);
      if (!there) return [];
      const [y1, y2, w] = [middle(element), middle(there.element), box.width];
      const kind = there.rank < rank ? "up" : there.rank > rank ? "down" : "";
      return [make("path", { class: kind, "data-index": element.dataset.index, d: `M2 ${y1}C${w * 0.5} ${y1} ${w * 0.5} ${y2} ${w - 2} ${y2}` })];
    });
    svg.replaceChildren(...lines);
  }
  light(state.lit);
}

/** Show where one document stands in all columns; null shows all alike. */
function light(index) {
  state.lit = index;
  $("columns").classList.toggle("lighting", index !== null);
  for (const element of $("columns").querySelectorAll("[data-index]")) element.classList.toggle("lit", element.dataset.index === index);
}

/* ---- how it came about ---- */

const COST = { questions: "questions", rounds: "rounds", calls: "forward passes", tokens_real: "tokens read", tokens_reused: "tokens reused", tokens_generated: "tokens written", memory_hits: "from memory", windows: "windows", truncated_documents: "documents cut", repairs: "answers repaired", price: "price" };

function method(texts, answer) {
  const rows = [["seconds", number(answer.seconds, 3), "from the request to the answer"]];
  for (const [name, label] of Object.entries(COST)) if (answer.cost[name]) rows.push([label, number(answer.cost[name].amount), answer.cost[name].what]);
  const cost = make("dl", { class: "cost" }, ...rows.map(([label, value, what]) => make("div", { title: what }, make("dt", { text: label }), make("dd", { text: value }))));
  const warnings = answer.warnings.map((text) => make("p", { class: "warning", text: text === "rank only" ? "Numbers from 0 to 1 say the rank alone: this method scores no document by itself." : text }));
  const note = make("p", { class: "note", text: `${answer.reranker} · ${answer.algorithm}` });
  return make("article", { class: "method" }, make("h3", { text: answer.model }), note, cost, ...warnings, ...figures(texts, answer));
}

/** A figure for each kind of question that was asked. */
function figures(texts, answer) {
  const by = new Map();
  for (const step of answer.steps) by.set(step.kind, [...(by.get(step.kind) || []), step]);
  const shown = [...by].flatMap(([kind, steps]) => {
    if (kind === "Compare") return [heading("Who wins against whom"), matrix(answer, steps)];
    if (kind === "Grade") return [heading(`Scores of ${steps.some((step) => step.windows) ? "windows" : "documents"}`), strip(steps)];
    return [heading({ Permute: "Windows put in order", Pick: "Choices", GradeSet: "Groups scored together", Write: "What was written" }[kind] || kind), asked(steps)];
  });
  if (answer.steps_left_out) shown.push(make("p", { class: "note", text: `${plural(answer.steps_left_out, "further question")} not shown.` }));
  return shown;
}

const heading = (text) => make("h4", { text });
const scroll = (label, child) => make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, child);

/** Rows and columns are documents by their new rank; a cell is how often, or how surely, the row's wins. */
function matrix(answer, steps) {
  const order = answer.results.map((result) => result.index);
  const wins = new Map();
  const add = (one, other, value) => wins.set(`${one} ${other}`, [...(wins.get(`${one} ${other}`) || []), value]);
  for (const step of steps) {
    if (step.probability === null) continue;
    const [one, other] = step.documents;
    add(one, other, step.probability);
    add(other, one, 1 - step.probability);
  }
  const name = (index) => String(index + 1);
  const head = make("tr", {}, make("td", { class: "self" }), ...order.map((index) => make("th", { scope: "col", text: name(index) })));
  const rows = order.map((one) => make("tr", {}, make("th", { scope: "row", text: name(one) }), ...order.map((other) => {
    const values = wins.get(`${one} ${other}`);
    if (!values) return make("td", { class: "self" });
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const cell = make("td", { text: mean.toFixed(2).replace(/^0/, ""), title: `document ${name(one)} against ${name(other)}` });
    cell.style.setProperty("--share", `${Math.round(mean * 100)}%`);
    return cell;
  })));
  const caption = make("caption", { class: "hidden", text: "Probability that the document of the row wins against that of the column, by their places before, best first." });
  return scroll("Comparisons", make("table", { class: "matrix" }, caption, make("thead", {}, head), make("tbody", {}, ...rows)));
}

/** Scores on a line, so that gaps are seen. */
function strip(steps) {
  const points = steps.map((step) => ({ score: step.scores[0], name: `document ${step.documents[0] + 1}${step.windows ? `, window ${step.windows[0]}` : ""}` }));
  const scores = points.map((point) => point.score);
  const [low, high] = [Math.min(...scores), Math.max(...scores)];
  const at = (score) => (high > low ? 16 + (368 * (score - low)) / (high - low) : 200);
  const dots = points.map((point) => make("circle", { cx: at(point.score), cy: 20, r: 6.5 }, make("title", { text: `${point.name}: ${number(point.score)}` })));
  const label = `${plural(points.length, "score")} from ${number(low)} to ${number(high)}`;
  const drawn = make("svg", { class: "strip", viewBox: "0 0 400 40", role: "img", "aria-label": label }, make("line", { x1: 8, x2: 392, y1: 20, y2: 20 }), ...dots);
  const ends = make("div", { class: "ends", "aria-hidden": "true" }, make("span", { text: number(low) }), make("span", { text: number(high) }));
  return make("div", {}, drawn, ends);
}

/** Every question with the documents it showed, by their places before, and what was answered. */
function asked(steps) {
  const chip = (place, won) => make("span", { class: won ? "chip won" : "chip", text: place + 1 });
  const rows = steps.map((step) => {
    const shown = step.documents;
    const row = make("li", {}, make("b", { text: `round ${step.round}` }));
    if (step.order) row.append(...shown.map((place) => chip(place)), make("i", { text: "→" }), ...step.order.map((index, rank) => chip(shown[index], rank === 0)));
    else if (step.picked) row.append(...shown.map((place, index) => chip(place, step.picked.includes(index))));
    else if (step.scores) row.append(...shown.map((place, index) => make("span", { class: "chip", text: `${place + 1}: ${number(step.scores[index], 3)}` })));
    else if (step.text !== undefined) row.append(make("span", { text: step.text }));
    if (step.repairs) row.append(make("i", { text: `repaired: ${step.repairs.join(", ")}` }));
    return row;
  });
  return scroll("Questions", make("ol", { class: "asked" }, ...rows));
}

/* ---- code to take away ---- */

const quoted = (text) => `'${text.replace(/'/g, "'\\''")}'`;
const literal = (value) => JSON.stringify(value);

const CODE = {
  curl(body) {
    const key = $("key").value ? ` \\\n  -H "Authorization: Bearer $RERANK_API_KEY"` : "";
    return `curl ${location.origin}/v1/rerank \\\n  -H 'Content-Type: application/json'${key} \\\n  -d ${quoted(JSON.stringify(body, null, 1))}`;
  },
  python(body) {
    const { query, documents: texts, model, ...more } = body;
    const extra = Object.keys(more).length ? `, extra=${literal(more)}` : "";
    const key = $("key").value ? `, api_key_env="RERANK_API_KEY"` : "";
    const listed = texts.map((text) => `    ${literal(text)},\n`).join("");
    return `from rerank import RemoteReranker\n\ndocuments = [\n${listed}]\nwith RemoteReranker(${literal(`${location.origin}/v1/rerank`)}, model=${literal(model)}${key}${extra}) as reranker:\n    for candidate in reranker.rank(${literal(query)}, documents):\n        print(candidate.score, candidate.document.text)\n`;
  },
  cohere(body) {
    const { query, documents: texts, model } = body;
    const key = $("key").value ? `os.environ["RERANK_API_KEY"]` : `"none"`;
    const listed = texts.map((text) => `    ${literal(text)},\n`).join("");
    return `${$("key").value ? "import os\n\n" : ""}import cohere\n\ndocuments = [\n${listed}]\nclient = cohere.ClientV2(api_key=${key}, base_url=${literal(location.origin)})\nanswer = client.rerank(model=${literal(model)}, query=${literal(query)}, documents=documents)\nfor result in answer.results:\n    print(result.relevance_score, documents[result.index])\n`;
  },
};

function code() {
  if (state.sent) $("code").textContent = CODE[state.tab](state.sent);
}

function choose(tab) {
  state.tab = tab.id.replace("tab-", "");
  for (const each of document.querySelectorAll('[role="tab"]')) {
    each.setAttribute("aria-selected", String(each === tab));
    each.tabIndex = each === tab ? 0 : -1;
  }
  $("code-panel").setAttribute("aria-labelledby", tab.id);
  code();
}

function turn(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  const next = tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length];
  choose(next);
  next.focus();
}

async function copy() {
  try {
    await navigator.clipboard.writeText($("code").textContent);
    $("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren($("code"));
    $("copy").textContent = "Selected: press Ctrl+C";
  }
  $("status").textContent = $("copy").textContent;
  setTimeout(() => { $("copy").textContent = "Copy"; }, 2000);
}

/* ---- wiring ---- */

$("ask").addEventListener("submit", rerank);
$("documents").addEventListener("input", counted);
$("collection").addEventListener("change", offerQueries);
$("collection-query").addEventListener("change", () => takeQuery().catch(complain));
$("key").addEventListener("change", () => { complain(""); start(); });
$("copy").addEventListener("click", copy);
$("ask").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("ask").requestSubmit();
});
for (const tab of document.querySelectorAll('[role="tab"]')) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", turn);
}
for (const [enter, leave] of [["mouseover", "mouseleave"], ["focusin", "focusout"]]) {
  $("columns").addEventListener(enter, (event) => {
    const element = event.target.closest(".card");
    light(element ? element.dataset.index : null);
  });
  $("columns").addEventListener(leave, () => light(null));
}
new ResizeObserver(() => { fold(); draw(); }).observe($("columns"));

function start() {
  counted();
  $("collection").replaceChildren(make("option", { value: "", text: "none" }));
  return Promise.all([models(), collections()]).catch((error) => {
    $("serving").textContent = "";
    complain(error);
  });
}
start();
