// Requests to the service; an error carries the detail of its problem JSON.

let token = "";

export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("tfcovr_token", given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  token = sessionStorage.getItem("tfcovr_token") || "";
  // <video> and <img> send no headers, so they show a cookie.
  if (token) document.cookie = `tfcovr_token=${token}; path=/v1; SameSite=Strict`;
}

export async function get(path) {
  return answer(await fetch(path, { headers: headers() }));
}

export const clipOf = (id) => get(`/v1/clip?id=${encodeURIComponent(id)}`);

// With a file, `onSent` gets the share of it that has been sent.
export async function search(query, file, onSent = () => {}) {
  if (!file) return answer(await post("/v1/search", query));
  const form = new FormData();
  form.append("query", JSON.stringify(query));
  form.append("video", file);
  return answer(await upload("/v1/search", form, onSent));
}

export async function cutList(clipIds, format) {
  const response = await post("/v1/cuts", { clip_ids: clipIds, format });
  return response.ok ? response.blob() : answer(response);
}

export const sendClicks = async (clicks) => answer(await post("/v1/labels/clicks", { clicks }));

export async function exportedLabels(format) {
  const response = await fetch(`/v1/labels/export?format=${format}`, { headers: headers() });
  return response.ok ? response.blob() : answer(response);
}

function post(path, body) {
  return fetch(path, { method: "POST", headers: { ...headers(), "content-type": "application/json" }, body: JSON.stringify(body) });
}

// fetch() does not tell how much of a body has been sent.
function upload(path, form, onSent) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onSent(event.loaded / event.total);
    request.onload = () => resolve(new Response(request.response, { status: request.status, statusText: request.statusText }));
    request.onerror = () => reject(new Error("The service does not answer, or it refused the file; is the file too large?"));
    request.send(form);
  });
}

function headers() {
  return token ? { authorization: `Bearer ${token}` } : {};
}

const WORDS = {
  401: "This service asks for a token: open the link that `tfcovr serve` printed.",
  429: "Too many requests for the moment; try again.",
  503: "The service or its Milvus does not answer; try again in a moment.",
};

async function answer(response) {
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  const text = WORDS[response.status] || body.detail || `${response.status} ${response.statusText}`;
  const error = new Error(text[0].toUpperCase() + text.slice(1));
  error.status = response.status;
  error.request = response.status >= 500 ? body.request_id : "";
  throw error;
}
