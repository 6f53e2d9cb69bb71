// DOM elements made from plain values; text is never parsed as HTML.

import { player } from "/web/players.js";

export function el(tag, values = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(values)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && name !== "list") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export function describe(clip) {
  return Object.entries(clip.attributes || {}).map(([name, value]) => phrase(name, value)).filter(Boolean).join(", ");
}

export function phrase(name, value) {
  const plural = name.replaceAll("_", " ");
  const words = value === "1" ? plural.replace(/s$/, "") : plural;
  if (value === "yes") return words;
  if (value === "no") return "";
  if (/^\d/.test(value)) return `${value} ${words}`;
  return name === "take_off" ? `${value} take-off` : value;
}

export function clipPlayer(clip) {
  return player(clip.media_url, { start_s: clip.start_s ?? 0, end_s: clip.end_s, poster: "", label: `${clip.clip_id}: ${describe(clip)}` });
}

export function hitCard(hit, rank, thumbs, on) {
  const span = hit.end_s === null || hit.start_s === null ? "" : ` ${hit.start_s.toFixed(2)}-${hit.end_s.toFixed(2)} s`;
  const total = Math.max(Math.abs(hit.from_clip) + Math.abs(hit.from_edit), 1e-6);
  const part = (value) => `${(100 * Math.max(value, 0)) / Math.max(total, 1)}%`;
  const bar = el("div", { className: "bar", role: "img", "aria-label": `from the clip ${hit.from_clip.toFixed(2)}, from the edit ${hit.from_edit.toFixed(2)}`, title: `from the clip ${hit.from_clip.toFixed(3)}, from the edit ${hit.from_edit.toFixed(3)}` });
  for (const [tag, value] of [["i", hit.from_clip], ["b", hit.from_edit]]) { const piece = el(tag); piece.style.width = part(value); bar.append(piece); }
  const changes = el("ul", { className: "changes" });
  const told = hit.predicted.filter((change) => change.verdict !== "kept");
  for (const change of told) {
    const asked = change.verdict === "not as asked" ? `, not ${change.asked}` : "";
    const text = `${change.text.replaceAll("_", "-").replace("->", "\u2192")}: ${change.verdict}${asked}`;
    changes.append(el("li", { className: change.verdict === "as asked" ? "asked" : "unasked", textContent: text }));
  }
  if (hit.predicted.length && !told.length) changes.append(el("li", { textContent: "all attributes kept" }));
  const thumb = (sign, text, title) => el("button", { type: "button", textContent: text, title, "aria-label": `${title}: ${hit.clip_id}`, "aria-pressed": String(thumbs.get(hit.clip_id) === sign), onclick: () => on.thumb(hit, sign) });
  const more = hit.num_grouped ? `, and ${hit.num_grouped} like it` : "";
  return el("article", { className: "hit", tabIndex: 0, "aria-label": `answer ${rank}: ${hit.label || hit.clip_id}`, "data-clip": hit.clip_id },
    el("div", { className: "player" }, clipPlayer(hit)),
    el("h2", {}, `${rank}. ${hit.label || hit.clip_id}`, el("span", { textContent: hit.score.toFixed(3), title: "score" })),
    bar, changes,
    el("p", { className: "quiet", textContent: `${describe(hit)}${span}${more}` }),
    el("div", { className: "row" },
      el("button", { type: "button", textContent: "edit this", title: "search from this clip", onclick: () => on.chain(hit) }),
      thumb(1, "+", "more like this"), thumb(-1, "\u2212", "less like this"),
      el("a", { className: "button", href: hit.trimmed_url, download: `${hit.clip_id.replaceAll("/", "_")}.mp4`, textContent: "save", title: "download this span as MP4" })));
}

// What the encoder reads of the query clip. A value can be corrected by hand; one in doubt is marked.
export function readingChips(reading, values, on) {
  return reading.filter((read) => read.is_factor).map((read) => {
    const known = [...new Set([read.value, ...(values[read.name] || [])])];
    const select = el("select", { name: read.name, "aria-label": `${read.name} of the query clip`, onchange: () => on.correct(read.name, select.value) },
      ...known.map((value) => el("option", { value, textContent: value || "none", selected: value === read.value })));
    const doubt = read.is_given ? "corrected" : read.is_doubtful ? `in doubt (${(100 * read.probability).toFixed(0)} %): correct it if it is wrong` : "";
    return el("label", { className: read.is_doubtful ? "doubtful" : "" }, `${read.name.replaceAll("_", "-")} `, select, doubt ? el("span", { className: "quiet", textContent: ` ${doubt}` }) : "");
  });
}

export function qualityPanel(quality, collection) {
  const value = (number, unit) => (number === null || number === undefined ? "\u2013" : `${number}${unit}`);
  const recall = quality.recall_at_k === null ? null : (100 * quality.recall_at_k).toFixed(1);
  const rows = [["p50", value(quality.p50_ms, " ms")], ["p95", value(quality.p95_ms, " ms")], ["p99", value(quality.p99_ms, " ms")],
    ["queries per second", value(quality.qps, "")], [`recall against exact, ${quality.num_sampled} sampled`, value(recall, " %")], ["search", collection.is_exact ? "exact" : "approximate"]];
  if (collection.abstain) rows.push(["\u201cno match\u201d is right", `${(100 * collection.abstain.precision).toFixed(0)} %`]);
  return rows.map(([name, text]) => el("dl", {}, el("dt", { textContent: name }), el("dd", { textContent: text })));
}
