// Elements and marked texts. Everything a document contains becomes a text node, never markup.

const SNIPPET = 420; // characters of a passage that are shown before "Whole passage" is pressed
const LEAD = 90; // of them before the first mark

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

/** Nodes of a text from `from` up to `to` with its spans marked; spans are in order and do not overlap. */
function marked(points, spans, from, to, className) {
  const nodes = [];
  let place = from;
  for (const { start, end } of spans) {
    if (end <= place || start >= to) continue;
    const first = Math.max(start, place);
    if (first > place) nodes.push(points.part(place, first));
    nodes.push(element("mark", { className }, points.part(first, Math.min(end, to))));
    place = Math.min(end, to);
  }
  if (place < to) nodes.push(points.part(place, to));
  return nodes;
}

/** The stretch of a long text that has the most marks. */
function window_(length, spans) {
  if (length <= SNIPPET * 1.25) return [0, length];
  let best = 0;
  let most = -1;
  for (let first = 0, last = 0; first < spans.length; first += 1) {
    while (last < spans.length && spans[last].start < spans[first].start - LEAD + SNIPPET) last += 1;
    if (last - first > most) [most, best] = [last - first, Math.max(0, spans[first].start - LEAD)];
  }
  const from = Math.min(best, length - SNIPPET);
  return [from, from + SNIPPET];
}

/** The passage with its marks; `whole` or the stretch that matters. Returns the nodes and whether something is cut. */
export function passage(text, spans, whole, className = "") {
  const points = codePoints(text);
  const [from, to] = whole ? [0, points.length] : window_(points.length, spans);
  const nodes = marked(points, spans, from, to, className);
  if (from > 0) nodes.unshift("… ");
  if (to < points.length) nodes.push(" …");
  return { nodes, cut: from > 0 || to < points.length };
}
