// Search over SECTIONS (search-index.js): every word must occur; words in a heading count more.
const MOST = 15;

function search(query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const found = [];
  for (const section of SECTIONS) {
    const title = section.t.toLowerCase(), text = section.x.toLowerCase();
    let score = 0;
    for (const word of words) {
      const times = text.split(word).length - 1;
      if (!times && !title.includes(word)) { score = 0; break; }
      score += Math.min(times, 5) + (title.includes(word) ? 10 : 0) + (title === word ? 20 : 0);
    }
    if (score) found.push({ section, score });
  }
  return found.sort((a, b) => b.score - a.score).slice(0, MOST).map((hit) => hit.section);
}

function excerpt(text, query) {
  const word = query.toLowerCase().split(/\s+/).filter(Boolean)[0];
  const at = Math.max(0, text.toLowerCase().indexOf(word));
  const start = Math.max(0, at - 60), end = at + 120;
  return (start ? "… " : "") + text.slice(start, end) + (end < text.length ? " …" : "");
}

function show(query) {
  const box = document.getElementById("results");
  box.replaceChildren();
  box.hidden = !query.trim();
  if (box.hidden) return;
  const hits = search(query);
  const line = document.createElement("p");
  line.textContent = hits.length ? "" : "Nothing found for: " + query;
  if (!hits.length) box.append(line);
  for (const hit of hits) {
    const link = document.createElement("a");
    link.href = hit.p;
    const title = document.createElement("b");
    title.textContent = hit.t;
    const chapter = document.createElement("small");
    chapter.textContent = hit.c;
    const text = document.createElement("span");
    text.textContent = excerpt(hit.x, query);
    link.append(title, chapter, text);
    link.addEventListener("click", () => { box.hidden = true; });
    box.append(link);
  }
}

const field = document.getElementById("query");
field.addEventListener("input", () => show(field.value));
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && event.target === document.body) { event.preventDefault(); field.focus(); }
  if (event.key === "Escape") { field.value = ""; show(""); field.blur(); }
});
const asked = new URLSearchParams(location.search).get("q");
if (asked) { field.value = asked; show(asked); }
