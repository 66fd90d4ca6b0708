// Elements and marked texts. Everything a document contains becomes a text node, never markup.

const MAX_LINES = 12; // of a passage that is shown with its line breaks at once

export function element(name, properties = {}, ...children) {
  const { data = {}, ...rest } = properties;
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(rest)) {
    if (key.startsWith("aria-") || key === "role" || key === "for") made.setAttribute(key, value);
    else made[key] = value;
  }
  Object.assign(made.dataset, data);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** A text whose spans count Unicode code points, as the server counts; JavaScript's strings count otherwise. */
function codePoints(text) {
  if (!/[\ud800-\udfff]/.test(text)) return { length: text.length, part: (from, to) => text.slice(from, to) };
  const points = Array.from(text);
  return { length: points.length, part: (from, to) => points.slice(from, to).join("") };
}

/** The words of a hit that the query has too. */
export function spanTexts({ text, spans }) {
  const points = codePoints(text);
  return spans.map(({ start, end }) => points.part(start, end));
}

/** Nodes of a text from `from` up to `to` with its spans marked; spans are in order and do not overlap. */
function marked(points, spans, from, to, className) {
  const nodes = [];
  let offset = from;
  for (const { start, end } of spans) {
    if (end <= offset || start >= to) continue;
    const first = Math.max(start, offset);
    if (first > offset) nodes.push(points.part(offset, first));
    nodes.push(element("mark", { className }, points.part(first, Math.min(end, to))));
    offset = Math.min(end, to);
  }
  if (offset < to) nodes.push(points.part(offset, to));
  return nodes;
}

/** The snippet of a hit, or all of it, with its marks. Returns the nodes and whether something is cut. */
export function passage({ text, snippet }, spans, whole, className = "") {
  const points = codePoints(text);
  const [from, to] = whole ? [0, points.length] : [snippet.start, snippet.end];
  const cut = points.part(0, from).trim() !== "" || points.part(to, points.length).trim() !== "" || text.split("\n").length > MAX_LINES;
  return { nodes: marked(points, spans, from, to, className), cut };
}
