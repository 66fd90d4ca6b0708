// What is shown: columns of hits, the answer's card, problems, and that there is nothing.

import { locked } from "./server.js";
import { element, passage, spanTexts } from "./text.js";

const LONG_ANSWER = 80; // characters, from which on it is set smaller
const THUMB = "M3 10h4v11H3zM9 10l4-8c1.7 0 2.8 1.2 2.6 2.9L15 9h5c1.4 0 2.3 1.2 2 2.5l-1.8 7.7A2.3 2.3 0 0 1 18 21H9z";

export function problem(message, retry) {
  const again = element("button", { type: "button" }, "Try again");
  again.addEventListener("click", retry);
  return element("p", { className: "problem" }, message, again);
}

export function nothing(filtered) {
  const hint = filtered ? "Other words, or fewer filters, may help." : "Other words may help.";
  return element("p", { className: "nothing" }, element("strong", {}, "Nothing found"), hint);
}

/** One system's results; `other` is the one beside it, if any. */
export function column(result, description, other, context) {
  const heading = element("h2", {}, result.system, element("span", { className: "soft" }, description));
  const section = element("section", { "aria-label": `Results of ${result.system}` }, heading);
  if (result.failed) section.append(element("p", { className: "problem", role: "alert" }, result.failed.message));
  else if (!result.hits.length) section.append(nothing(false));
  else section.append(element("ol", {}, ...result.hits.map((hit, at) => item(hit, at + 1, result.system, other, context))));
  return section;
}

function item(hit, rank, system, other, context) {
  const title = hit.title || hit.doc_id;
  const heading = element("h3", {}, element("span", { className: "rank" }, String(rank)), element("span", {}, title));
  const article = element("article", { tabIndex: -1, "aria-label": `${rank}: ${title}`, data: { document: hit.doc_id } }, heading);
  const where = origins(hit, context);
  if (where) article.append(where);
  article.append(...text(hit), reasons(hit, context));
  const actions = element("div", { className: "actions" });
  if (context.vote) actions.append(...thumbs(hit, title, rank, system, context));
  const moved = other && !other.failed ? rankBeside(hit, rank, other) : null;
  if (moved) actions.append(moved);
  const more = article.querySelector("button.more");
  if (more) actions.insertBefore(more, actions.querySelector(".other"));
  if (actions.children.length) article.append(actions);
  return element("li", {}, article);
}

/** Where the file of a hit can be opened, at its page; null where nobody knows. */
function address(hit) {
  const { url, source, page } = hit.metadata;
  const web = [url, source].find((value) => typeof value === "string" && /^https?:\/\//i.test(value));
  const known = web ?? (hit.file && !locked() ? `/file?doc_id=${encodeURIComponent(hit.doc_id)}` : null);
  return known && page ? `${known}#page=${page}` : known;
}

/** Source, page and headings, as far as the title does not say them; a heading narrows the search to itself. */
function origins(hit, context) {
  const { page, source } = hit.metadata;
  const parts = [];
  const link = address(hit);
  const words = [source, page ? `page ${page}` : ""].filter((value) => typeof value === "string" && value).join(", ");
  if (link) parts.push(element("a", { href: link, target: "_blank", rel: "noopener noreferrer" }, words || "Open"));
  else if (page) parts.push(`page ${page}`);
  for (const name of Object.keys(context.fields)) {
    if (name === "source" && link) continue;
    const texts = [hit.metadata[name]].flat().filter((text) => typeof text === "string" && text && !hit.title.includes(text));
    for (const text of texts) {
      const button = element("button", { type: "button", title: `Only results with this ${name}` }, text);
      button.addEventListener("click", () => context.filter(name, text));
      parts.push(button);
    }
  }
  const spaced = parts.flatMap((part, at) => (at ? [" · ", part] : [part]));
  return spaced.length ? element("p", { className: "where soft" }, ...spaced) : null;
}

/** Why a document was found: where each part of the system had it, and the query's words in it. */
function reasons(hit, context) {
  const ranks = Object.entries(hit.ranks).sort((one, other) => one[1] - other[1]);
  const found = ranks.map(([name, rank]) => `${context.parts[name] || name} (rank ${rank})`).join(", ");
  const words = [...new Set(spanTexts(hit).map((word) => word.toLowerCase()))];
  const shared = words.length ? `query words in the text: ${words.join(", ")}` : "no query word in the text";
  return element("p", { className: "why soft" }, found ? `Found by ${found}; ${shared}` : shared);
}

function text(hit) {
  const short = passage(hit, hit.spans, false);
  const shown = element("p", { className: short.cut ? "passage short" : "passage" }, ...short.nodes);
  if (!short.cut) return [shown];
  const more = element("button", { type: "button", className: "more", "aria-expanded": "false" }, "Whole passage");
  more.addEventListener("click", () => {
    const whole = more.getAttribute("aria-expanded") === "false";
    more.setAttribute("aria-expanded", whole);
    more.textContent = whole ? "Less" : "Whole passage";
    shown.classList.toggle("short", !whole);
    shown.replaceChildren(...passage(hit, hit.spans, whole).nodes);
  });
  return [shown, more];
}

function thumbs(hit, title, rank, system, context) {
  return [
    [1, "Relevant"],
    [0, "Not relevant"],
  ].map(([relevance, label]) => {
    const settings = { type: "button", title: label, "aria-label": `${label}: ${title}`, "aria-pressed": "false" };
    const button = element("button", { ...settings, data: { relevance } }, thumb());
    button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") === "true";
      context.vote(context.query, hit, system, rank, pressed ? null : relevance);
    });
    return button;
  });
}

/** A drawn thumb, since not every machine has a font with one; the stylesheet turns it down. */
function thumb() {
  const [svg, path] = ["svg", "path"].map((name) => document.createElementNS("http://www.w3.org/2000/svg", name));
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", THUMB);
  svg.append(path);
  return svg;
}

function rankBeside(hit, rank, other) {
  const there = other.hits.findIndex((found) => found.doc_id === hit.doc_id) + 1;
  const better = !there || there > rank;
  const words = there ? `rank ${there} in ${other.system}` : `not found by ${other.system}`;
  return element("span", { className: `other ${better ? "up" : "soft"}` }, `${there === rank ? "" : better ? "▲ " : "▼ "}${words}`);
}

/** The answer with what it rests on; the closest passage, where no model has read it, is no answer. */
export function answerCard(found) {
  const cited = found.cited.length ? found.sources[found.cited[0] - 1] : null;
  const quote = found.span && cited ? quotation(cited, found.span) : null;
  const label = element("h2", {}, title(found));
  const long = found.text.length > LONG_ANSWER ? " long" : "";
  const said = found.answered ? found.text : `${found.reason || "The documents do not say"}.`;
  const words = found.answered && found.closest && quote ? null : element("p", { className: `text${long}` }, said);
  const sources = found.answered && found.sources.length ? sourceList(found) : null;
  return [label, words, quote, sources].filter(Boolean);
}

function title({ answered, closest, method, score }) {
  if (closest) return answered ? "Closest passage (it may not answer the question)" : "No passage is close to the question";
  if (!answered) return "No answer in these documents";
  return score === null ? `Answer (${method})` : `Answer (${method}, score ${score.toPrecision(3)})`;
}

function quotation(hit, span) {
  return element("blockquote", {}, ...passage(hit, [span], false, "found").nodes);
}

/** The sources by number: those that are cited, and of a written answer the others too. */
function sourceList(found) {
  const items = found.sources.map((hit, at) => {
    const { source, page } = hit.metadata;
    const where = [source, page ? `page ${page}` : ""].filter((value) => typeof value === "string" && value);
    return { used: found.cited.includes(at + 1), line: [hit.title || hit.doc_id, ...where].join(" · "), at };
  });
  const shown = found.kind === "generated" ? items : items.filter((item) => item.used);
  const lines = shown.map(({ used, line, at }) =>
    element("li", { className: used ? "used" : "unused", value: at + 1 }, used ? element("strong", {}, line) : line),
  );
  return element("ol", { "aria-label": "Sources" }, ...lines);
}

/** What is here, and queries to try. */
export function welcome({ documents, systems, examples, notes }, tryOut) {
  const best = systems.find((system) => system.default) ?? systems[0];
  const count = `${documents.toLocaleString("en")} ${documents === 1 ? "passage" : "passages"}`;
  const lines = [`${count}, searched with ${best.description}.`, ...notes];
  const buttons = examples.map((query) => {
    const button = element("button", { type: "button" }, query);
    button.addEventListener("click", () => tryOut(query));
    return element("li", {}, button);
  });
  const list = buttons.length ? [element("h2", {}, "For example"), element("ul", {}, ...buttons)] : [];
  return [...lines.map((line) => element("p", {}, line)), ...list];
}
