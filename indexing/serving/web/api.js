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

export async function search(query, file) {
  if (!file) {
    const body = JSON.stringify(query);
    return answer(await fetch("/v1/search", { method: "POST", headers: { ...headers(), "content-type": "application/json" }, body }));
  }
  const form = new FormData();
  form.append("query", JSON.stringify(query));
  form.append("video", file);
  return answer(await fetch("/v1/search", { method: "POST", headers: headers(), body: form }));
}

function headers() {
  return token ? { authorization: `Bearer ${token}` } : {};
}

async function answer(response) {
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    if (response.status === 401) throw new Error("This service asks for a token: open the link that `tfcovr serve` printed.");
    throw new Error(body.request_id ? `${body.detail} (request ${body.request_id})` : `${response.status} ${response.statusText}`);
  }
  return body;
}
