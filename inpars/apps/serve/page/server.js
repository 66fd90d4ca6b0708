// The server's endpoints, as promises; what goes wrong is a Problem that can be shown.

const PATIENCE = 90_000; // milliseconds; the server gives up sooner
let key = sessionStorage.getItem("inpars-key") ?? "";

export class Problem extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export function useKey(value) {
  key = value;
  sessionStorage.setItem("inpars-key", value);
}

/** Whether requests need a key, which a link cannot bring. */
export const locked = () => key !== "";

export async function call(path, body, signal) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const stop = AbortSignal.any([AbortSignal.timeout(PATIENCE), ...(signal ? [signal] : [])]);
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { ...options, headers, signal: stop });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server cannot be reached.", 0);
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(sentence(response.status, answer), response.status);
  return answer;
}

function sentence(status, answer) {
  if (status === 429) return "The server is busy. Try again in a moment.";
  if (status === 401) return "This server wants a key.";
  const said = answer.error?.message;
  return status >= 500 ? `The server failed (${status}${said ? `: ${said}` : ""}).` : said ?? `Refused (${status}).`;
}
