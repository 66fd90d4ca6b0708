// The page's flow: what was typed and chosen, to requests, to what is shown. The address keeps the state.

import { answerCard, column, nothing, problem, welcome } from "./parts.js";
import { call, useKey } from "./server.js";
import { element } from "./text.js";

const HITS = 10;
const $ = (id) => document.getElementById(id);
let collection = { systems: [], answers: [], fields: {}, examples: [], feedback: false };
let running = null; // aborts the requests of the query before
let asked = false; // whether the last query was a question

const chosen = () => [$("first").value, $("second").value].filter((name, at, all) => name && all.indexOf(name) === at);

function filters() {
  const filled = [...document.querySelectorAll("#filters select")].filter((select) => select.value);
  return Object.fromEntries(filled.map((select) => [select.name, select.value]));
}

async function start() {
  collection = await call("/v1/collection");
  const count = collection.documents.toLocaleString("en");
  $("about").textContent = `${count} passages`;
  $("about").title = collection.notes.join("; ");
  fillSystems();
  fillFilters();
  $("vote-keys").hidden = !collection.feedback;
  $("start").replaceChildren(...welcome(collection, tryOut));
  $("ask").hidden = collection.answers.length === 0;
  $("ask").textContent = collection.closest && collection.answers.length === 1 ? "Closest passage" : "Ask";
  $("kind-choice").hidden = collection.answers.length < 2;
  const names = { extractive: collection.closest ? "closest passage" : "quoted", generated: "written" };
  $("kind").replaceChildren(...collection.answers.map((kind) => new Option(names[kind] ?? kind, kind)));
  fromAddress();
}

function fillSystems() {
  const names = collection.systems.map((system) => system.name);
  const best = collection.systems.find((system) => system.default)?.name ?? names[0];
  $("first").replaceChildren(...names.map((name) => new Option(name, name, false, name === best)));
  const beside = names.includes("base") && best !== "base" ? "base" : "";
  $("second").replaceChildren(new Option("nothing", ""), ...names.map((name) => new Option(name, name)));
  $("second").value = beside;
  $("second-choice").hidden = names.length < 2;
}

function fillFilters() {
  const all = collection.counted === collection.documents; // else the counts would be too low
  const labels = Object.entries(collection.fields).map(([name, values]) => {
    const options = Object.entries(values).map(([value, count]) => new Option(all ? `${value} (${count})` : value, value));
    const select = element("select", { name, id: `filter-${name}` }, new Option("any", ""), ...options);
    select.addEventListener("change", () => $("query").value.trim() && submit(asked));
    return element("label", {}, `${name} `, select);
  });
  $("filters").replaceChildren(...labels);
}

/** Choose a value; one that is not listed, a rare one or a pattern such as *.pdf, becomes an option of its own. */
function choose(select, value) {
  if (![...select.options].some((option) => option.value === value)) select.add(new Option(value, value));
  select.value = value;
}

function tryOut(query) {
  $("query").value = query;
  submit(false);
}

/** Fill the form from the address and search, where there is a query. */
function fromAddress() {
  const state = new URLSearchParams(location.search);
  $("query").value = state.get("q") ?? "";
  for (const id of ["first", "second", "kind"]) if (state.has(id)) $(id).value = state.get(id);
  for (const select of document.querySelectorAll("#filters select")) choose(select, state.get(`f.${select.name}`) ?? "");
  if ($("query").value.trim()) return run(state.has("ask"));
  clear();
}

function toAddress(question) {
  const state = new URLSearchParams({ q: $("query").value.trim(), first: $("first").value, second: $("second").value });
  for (const [name, value] of Object.entries(filters())) state.set(`f.${name}`, value);
  if (question) state.set("kind", $("kind").value), state.set("ask", "1");
  const address = `?${state}`;
  if (address !== location.search) history.pushState(null, "", address);
}

function submit(question) {
  if (!$("query").value.trim()) {
    clear();
    $("status").textContent = "Type something to search for.";
    return $("query").focus();
  }
  toAddress(question);
  return run(question);
}

function clear() {
  running?.abort();
  document.querySelector("main").ariaBusy = "false";
  $("results").replaceChildren();
  $("alert").replaceChildren();
  $("answer").hidden = $("switch").hidden = true;
  $("start").hidden = false;
  $("status").textContent = "";
}

async function run(question) {
  running?.abort();
  const mine = (running = new AbortController());
  asked = question;
  const query = $("query").value.trim();
  const main = document.querySelector("main");
  main.ariaBusy = "true";
  $("status").textContent = question ? "Looking for an answer" : "Searching";
  $("alert").replaceChildren();
  $("start").hidden = true;
  const [results] = await Promise.all([
    searchAll(query, mine.signal),
    question ? answer(query, mine.signal) : ($("answer").hidden = true),
  ]);
  if (mine.signal.aborted) return;
  main.ariaBusy = "false";
  if (results) show(query, results);
  document.title = `${query} · search the documents`;
}

/** The results of each system chosen, or null where none could be had; a problem of one is shown in its place. */
async function searchAll(query, signal) {
  const names = chosen();
  const one = (system) => call("/search", { query, k: HITS, system, filters: filters() }, signal);
  const settled = await Promise.allSettled(names.map(one));
  if (signal.aborted) return null;
  if (settled.every((result) => result.status === "rejected")) {
    $("results").replaceChildren();
    $("switch").hidden = true;
    $("status").textContent = "";
    fail(settled[0].reason);
    return null;
  }
  return settled.map((result, at) => ({ system: names[at], ...(result.value ?? { hits: [], failed: result.reason }) }));
}

async function answer(question, signal) {
  $("answer").hidden = true;
  try {
    const found = await call("/ask", { question, kind: $("kind").value, system: $("first").value, filters: filters() }, signal);
    $("answer").replaceChildren(...answerCard(found));
    $("answer").className = found.kind === "generated" ? "written" : "";
    $("answer").hidden = false;
  } catch (error) {
    if (!signal.aborted) fail(error);
  }
}

function show(query, results) {
  const found = results.reduce((sum, result) => sum + result.hits.length, 0);
  const failed = results.some((result) => result.failed);
  const wide = results.length > 1;
  $("switch").hidden = !wide || (!found && !failed);
  $("switch").replaceChildren(...(wide ? results.map((result, at) => shownButton(result.system, at)) : []));
  shown(0);
  if (!found && !failed) {
    $("results").replaceChildren(nothing(Object.keys(filters()).length > 0));
    $("status").textContent = "Nothing found.";
    return;
  }
  const described = Object.fromEntries(collection.systems.map((system) => [system.name, system.description]));
  const parts = { ...described, reranker: `the reranker ${collection.reranker}` };
  const context = { query, vote: collection.feedback ? vote : null, filter: narrow, fields: collection.fields, parts };
  $("results").replaceChildren(
    ...results.map((result, at) => column(result, described[result.system] ?? "", results[1 - at], context)),
  );
  $("status").textContent = results.filter((result) => !result.failed).map(counted).join(", ");
}

function counted({ system, hits, took_ms: milliseconds }) {
  const count = hits.length === HITS ? `first ${HITS}` : `${hits.length} ${hits.length === 1 ? "result" : "results"}`;
  return `${system}: ${count} in ${Math.max(1, Math.round(milliseconds))} ms`;
}

function shownButton(name, at) {
  const button = element("button", { type: "button" }, name);
  button.addEventListener("click", () => shown(at));
  return button;
}

function shown(at) {
  $("results").dataset.shown = at;
  [...$("switch").children].forEach((button, index) => button.setAttribute("aria-pressed", index === at));
}

function fail(error) {
  if (error.status === 401) {
    $("key-form").hidden = false;
    $("key").focus();
  }
  $("alert").replaceChildren(problem(error.message, () => (collection.systems.length ? run(asked) : begin())));
}

/** Keep a vote; pressing what is pressed takes it back. Votes on the same document are shown in both columns. */
async function vote(query, hit, system, rank, relevance) {
  try {
    await call("/feedback", { query, doc_id: hit.doc_id, relevance, system, rank });
  } catch (error) {
    fail(error);
    return;
  }
  for (const article of document.querySelectorAll("article")) {
    if (article.dataset.document !== hit.doc_id) continue;
    for (const button of article.querySelectorAll("button[data-relevance]"))
      button.setAttribute("aria-pressed", button.dataset.relevance === String(relevance));
  }
  $("status").textContent = relevance === null ? "Taken back." : "Thank you, kept.";
}

function narrow(name, value) {
  choose($(`filter-${name}`), value);
  submit(asked);
}

function move(step) {
  const articles = [...document.querySelectorAll("article")].filter((article) => article.offsetParent !== null);
  const at = articles.indexOf(document.activeElement?.closest?.("article"));
  articles[Math.min(Math.max(at + step, 0), articles.length - 1)]?.focus();
}

function press(event) {
  const typing = event.target.closest?.("input, select, textarea");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const actions = {
    "/": () => $("query").select(),
    j: () => move(1),
    k: () => move(-1),
    u: () => document.activeElement.closest("article")?.querySelector("[data-relevance='1']")?.click(),
    d: () => document.activeElement.closest("article")?.querySelector("[data-relevance='0']")?.click(),
  };
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
}

function begin() {
  $("alert").replaceChildren();
  return start().catch(fail);
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  submit(false);
});
$("ask").addEventListener("click", () => submit(true));
for (const id of ["first", "second"]) $(id).addEventListener("change", () => $("query").value.trim() && submit(asked));
$("kind").addEventListener("change", () => asked && submit(true));
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey($("key").value);
  $("key-form").hidden = true;
  begin();
});
const roomy = matchMedia("(min-width: 46.01rem)"); // where the options are always open
const unfold = () => ($("options").open = roomy.matches);
roomy.addEventListener("change", unfold);
unfold();
addEventListener("keydown", press);
addEventListener("popstate", fromAddress);
begin();
