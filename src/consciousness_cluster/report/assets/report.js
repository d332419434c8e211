// Theme button, tables, folded parts, drawn answers, and the answer browser. Model text only ever enters the page as text nodes.
(() => {
  "use strict";
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);

  // ---- theme
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("consciousness-cluster-theme", root.dataset.theme); } catch { /* the choice then lasts as long as the page */ }
  });

  // ---- tables: one that fits its place needs no stop of the keyboard; one that does not is scrolled from there
  const fits = new ResizeObserver((seen) => {
    for (const { target } of seen) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  document.querySelectorAll(".scroll").forEach((part) => fits.observe(part));

  // ---- folded parts: a link into one opens it; printing opens the preferences and the words
  const reveal = () => {
    const target = location.hash.length > 1 && byId(decodeURIComponent(location.hash.slice(1)));
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();
  addEventListener("beforeprint", () => document.querySelectorAll("details.preference, details.words").forEach((part) => { part.open = true; }));

  // ---- answers: unpacked once, when first wanted
  const source = byId("answers-data");
  if (!source) return;
  let unpacked = null;
  const unpack = () => (unpacked ??= (async () => {
    const binary = atob(JSON.parse(source.textContent).gzip64);
    const bytes = Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  })());

  const element = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };

  const thousands = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");

  const marked = (name, text, wanted, kind) => {
    const made = element(name, undefined, kind);
    const lower = text.toLowerCase();
    let from = 0;
    for (let at = wanted ? lower.indexOf(wanted) : -1; at >= 0; at = lower.indexOf(wanted, from)) {
      made.append(text.slice(from, at), element("mark", text.slice(at, at + wanted.length)));
      from = at + wanted.length;
    }
    made.append(text.slice(from));
    return made;
  };

  const reader = (data, row) => (name) => {
    const code = data.fields[name].codes[row];
    return code < 0 ? "" : data.fields[name].values[code];
  };

  const armOf = (get) => [get("model"), get("condition"), get("seed") && `seed ${get("seed")}`].filter(Boolean).join(", ");

  const view = (data, row, wanted, whole) => {
    const get = reader(data, row);
    const entry = element("li");
    entry.append(marked("p", get("question"), wanted, "question"), marked("p", get("answer") || "(empty)", wanted, "answer"));
    const verdict = get("verdict");
    const meta = element("p", undefined, "meta");
    meta.append(element("span", verdict, `verdict ${verdict}`));
    const facts = [get("stance"), ...(whole ? [armOf(get), titles[get("preference")]] : []), get("item"), get("why"), whole && get("log")];
    for (const fact of facts) if (fact) meta.append(` · ${fact}`);
    entry.append(meta);
    return entry;
  };

  const titles = {};
  document.querySelectorAll("details.preference[id]").forEach((part) => {
    titles[part.id.slice(5)] = part.querySelector(".name").textContent;
  });

  // ---- the drawn answers of a preference, arm by arm
  document.querySelectorAll("details.drawn").forEach((part) => part.addEventListener("toggle", async () => {
    const place = part.querySelector(".place");
    if (!part.open || place.childElementCount) return;
    const data = await unpack();
    if (place.childElementCount) return;
    let arm = "", list = null;
    for (const row of data.drawn[part.dataset.preference] || []) {
      const name = armOf(reader(data, row));
      if (name !== arm) {
        arm = name;
        list = element("ol", undefined, "quotes");
        const block = element("div");
        block.append(element("h5", name), list);
        place.append(block);
      }
      list.append(view(data, row, "", false));
    }
  }));

  // ---- the browser
  const PAGE = 25;
  const form = byId("filters");
  const selects = [...form.querySelectorAll("select")];
  let rows = null, page = 0, ready = false, lower = null;

  const prepare = async () => {
    const data = await unpack();
    if (ready) return data;
    ready = true;
    for (const select of selects) {
      data.fields[select.name].values.forEach((value, code) => {
        const option = element("option", select.name === "preference" ? titles[value] || value : value);
        option.value = String(code);
        select.append(option);
      });
    }
    // text is searched once per distinct text, not once per row
    lower = Object.fromEntries(["question", "answer"].map((name) => [name, data.fields[name].values.map((text) => text.toLowerCase())]));
    return data;
  };

  const filter = (data, wanted) => {
    const tests = selects.filter((select) => select.value !== "").map((select) => [data.fields[select.name].codes, Number(select.value)]);
    const hits = wanted && ["question", "answer"].map((name) => [data.fields[name].codes, lower[name].map((text) => text.includes(wanted))]);
    const found = [];
    const size = data.fields.verdict.codes.length;
    for (let row = 0; row < size; row++) {
      if (tests.every(([codes, code]) => codes[row] === code) && (!hits || hits.some(([codes, hit]) => hit[codes[row]]))) found.push(row);
    }
    return found;
  };

  const show = async (again) => {
    const data = await prepare();
    const wanted = form.elements.text.value.trim().toLowerCase();
    if (again || !rows) { rows = filter(data, wanted); page = 0; }
    const last = Math.max(Math.ceil(rows.length / PAGE) - 1, 0);
    page = Math.min(Math.max(page, 0), last);
    byId("list").replaceChildren(...rows.slice(page * PAGE, (page + 1) * PAGE).map((row) => view(data, row, wanted, true)));
    const total = data.fields.verdict.codes.length;
    byId("count").textContent = `${thousands(rows.length)} of ${thousands(total)} verdicts on answers`;
    byId("where").textContent = rows.length ? `page ${page + 1} of ${last + 1}` : "";
    byId("previous").disabled = page === 0;
    byId("next").disabled = page >= last;
  };

  let waiting = 0;
  form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => show(true), 120); });
  form.addEventListener("reset", () => setTimeout(() => show(true)));
  form.addEventListener("submit", (event) => event.preventDefault());
  const turn = (by) => { page += by; show(false); byId("count").scrollIntoView({ block: "start" }); };
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));

  // nothing is unpacked before the reader comes near
  new IntersectionObserver((seen, watch) => {
    if (seen.some((entry) => entry.isIntersecting)) { watch.disconnect(); show(true); }
  }, { rootMargin: "600px" }).observe(byId("answers"));
})();
