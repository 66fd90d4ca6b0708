// The OpenAPI description as a page: every endpoint with its fields and a line to try it.

import { element } from "./text.js";

const EXAMPLES = {
  "/v1/embeddings": { input: ["a text"], input_type: "query" },
  "/v1/rerank": { query: "a question", documents: ["one text", "another"] },
  "/search": { query: "a question", k: 5 },
  "/ask": { question: "a question" },
  "/feedback": { query: "a question", doc_id: "id", relevance: 1 },
};
const description = await (await fetch("/openapi.json")).json();
const resolve = (schema) => (schema?.$ref ? description.components.schemas[schema.$ref.split("/").pop()] : schema);

function kind(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${kind(schema.items)}`;
  return schema.type ?? "anything";
}

function bounds(schema) {
  const names = { minimum: "at least", maximum: "at most", minLength: "characters from", maxLength: "characters up to", minItems: "items from", maxProperties: "at most" };
  const parts = [schema, ...(schema.anyOf ?? [])];
  const found = parts.flatMap((part) => Object.entries(names).filter(([name]) => name in part).map(([name, words]) => `${words} ${part[name]}`));
  if (schema.default !== undefined && schema.default !== null) found.push(`default ${JSON.stringify(schema.default)}`);
  return found.join(", ");
}

function table(title, schema, of) {
  const needed = schema.required ?? [];
  const rows = Object.entries(schema.properties ?? {}).map(([name, field]) =>
    element("tr", {}, element("td", {}, element("code", {}, name)), element("td", {}, kind(field) + (needed.includes(name) ? ", needed" : "")), element("td", {}, bounds(field)), element("td", {}, field.description ?? "")),
  );
  if (!rows.length) return null;
  const head = element("tr", {}, ...["field", "type", "limits", "what"].map((text) => element("th", {}, text)));
  return element("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": `${title} of ${of}` }, element("p", {}, title), element("table", {}, head, ...rows));
}

function tryLine(path, method) {
  const body = EXAMPLES[path];
  const asked = { "/search": "?q=a+question", "/file": "?doc_id=id" };
  const address = `${location.origin}${path}${method === "get" ? asked[path] ?? "" : ""}`;
  if (method === "get") return `curl '${address}'`;
  return `curl ${address} -H 'Content-Type: application/json' \\\n  -d '${JSON.stringify(body ?? {})}'`;
}

function operation(path, method, told) {
  const request = resolve(told.requestBody?.content?.["application/json"]?.schema);
  const good = Object.entries(told.responses).find(([code]) => code.startsWith("2"))?.[1];
  const response = resolve(good?.content?.["application/json"]?.schema);
  const summary = element("summary", {}, element("span", { className: "method" }, method.toUpperCase()), " ", element("code", {}, path), ` ${told.description ?? ""}`);
  const parameters = { properties: Object.fromEntries((told.parameters ?? []).map((p) => [p.name, { ...p.schema, description: p.description }])) };
  const name = `${method.toUpperCase()} ${path}`;
  const example = element("pre", { tabIndex: 0 }, tryLine(path, method));
  const parts = [example, table("Parameters", parameters, name), request && table("Request", request, name), response && table("Response", response, name)];
  return element("details", {}, summary, ...parts.filter(Boolean));
}

const groups = new Map();
for (const [path, methods] of Object.entries(description.paths))
  for (const [method, told] of Object.entries(methods)) {
    const tag = told.tags?.[0] ?? "other";
    groups.set(tag, [...(groups.get(tag) ?? []), operation(path, method, told)]);
  }
const sections = [...groups].flatMap(([tag, operations]) => [element("h2", {}, tag), ...operations]);
document.getElementById("operations").replaceChildren(...sections);
