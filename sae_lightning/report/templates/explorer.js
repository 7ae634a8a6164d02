"use strict";
// The latent explorer: loads packed parts on demand, keeps two panes and their virtual lists, follows the hash.
(() => {
  const { draw, el, number, percent, visible } = saeLatent;
  const ROW = 40;
  const $ = (id) => document.getElementById(id);

  // Packed parts -------------------------------------------------------------------------------------------------
  const parts = new Map();
  const waiting = new Map();
  let manifest;

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  // A page opened from disk may not read files, but load scripts: those beside the page call this.
  window.saeLatents = (name, text) => waiting.get(name)(text);

  function textOf(name) {
    if (manifest.folder === null) return Promise.resolve($(`lx-part-${name}`).textContent);
    return new Promise((resolve, reject) => {
      waiting.set(name, resolve);
      const script = el("script", { src: `${manifest.folder}/${name}.js` });
      script.onerror = () => reject(new Error(`${manifest.folder}/${name}.js is missing: keep it beside this page`));
      document.head.append(script);
    });
  }

  function part(name) {
    if (!parts.has(name)) parts.set(name, textOf(name).then(unpack));
    return parts.get(name);
  }

  // A member's index, with what is derived from it: rows by latent, and words to search in.
  const indexes = new Map();
  function indexOf(member) {
    if (!indexes.has(member)) indexes.set(member, part(`${manifest.members.indexOf(member)}-index`).then(readIndex));
    return indexes.get(member);
  }

  function readIndex(columns) {
    const names = Object.keys(columns);
    const rows = columns.latent.map((_, i) => {
      const row = { place: i };
      for (const name of names) if (columns[name][i] !== null) row[name] = columns[name][i];
      row.words = [row.explanation || "", ...(row.tokens || [])].join("\n").toLowerCase();
      return row;
    });
    return { rows, names, byLatent: new Map(rows.map((row) => [row.latent, row])) };
  }

  async function restOf(member, row) {
    const chunk = await part(`${manifest.members.indexOf(member)}-${Math.floor(row.place / manifest.chunk)}`);
    const rest = chunk[row.place % manifest.chunk];
    const shown = [...(rest.examples || []), ...(rest.quarters || []).flat()];
    await Promise.all(shown.filter(({ type }) => type === "image").map(findImage));
    return rest;
  }

  async function findImage(example) {
    const place = manifest.images.indexOf(example.image);
    if (place < 0) return;
    const images = await part(`images-${Math.floor(place / manifest.images_in_part)}`);
    Object.assign(example, images[place % manifest.images_in_part]);
  }

  // Order and search ---------------------------------------------------------------------------------------------
  const CLASSES = ["novel", "reconstruction", "undecided", "dead"];
  const SORTS = {
    latent: { label: "number", value: (row) => row.latent, show: (row) => shownFrequency(row) },
    frequency: { label: "firing frequency, highest first", value: (row) => -row.frequency, show: (row) => shownFrequency(row) },
    score: { label: "score, highest first", value: (row) => -row.score, show: (row) => ("score" in row ? number(row.score) : "") },
    stability: { label: "stability over seeds, highest first", value: (row) => -row.stability, show: (row) => ("stability" in row ? number(row.stability) : "") },
    cosine_to_start: { label: "drift, farthest first", value: (row) => row.cosine_to_start, show: (row) => number(row.cosine_to_start) },
    feature: { label: "nearest true feature, nearest first", value: (row) => -row.feature[1], show: (row) => number(row.feature[1]) },
    class: { label: "class", value: (row) => CLASSES.indexOf(row.class), show: (row) => row.class || "" },
  };
  const shownFrequency = (row) => ("frequency" in row ? percent(row.frequency) : "");

  function ordered(index, sort, search) {
    const { value } = SORTS[sort];
    const wanted = search.toLowerCase();
    const meta = /^meta:(\d+)$/.exec(wanted.trim());
    const matches = (row) =>
      meta ? (row.meta || []).includes(Number(meta[1]))
           : row.words.includes(wanted) || (/^\d+$/.test(wanted.trim()) && row.latent === Number(wanted));
    const rows = wanted.trim() ? index.rows.filter(matches) : index.rows.slice();
    const known = (row) => sort in row; // those without a value come last
    return rows.sort((a, b) => known(b) - known(a) || (known(a) ? value(a) - value(b) : 0) || a.latent - b.latent);
  }

  // A pane -------------------------------------------------------------------------------------------------------
  class Pane {
    constructor(root, member) {
      Object.assign(this, { root, member, rows: [], latent: null, side: root.dataset.side });
      this.list = root.querySelector(".lx-list");
      this.spacer = this.list.firstElementChild;
      this.select = root.querySelector(".lx-member");
      this.overview = root.querySelector(".lx-overview");
      for (const { name, marker } of manifest.members) this.select.append(el("option", { value: name }, `${marker} ${name}`));
      this.select.addEventListener("change", () => this.change(manifest.members[this.select.selectedIndex], null));
      this.list.addEventListener("scroll", () => requestAnimationFrame(() => this.paint()));
      this.list.addEventListener("keydown", (event) => this.move(event));
      this.list.addEventListener("click", (event) => {
        const option = event.target.closest("[role=option]");
        if (option) this.show(Number(option.dataset.latent));
      });
    }

    // Another member, and of it a latent, or the first that fires.
    async change(member, latent) {
      this.member = member;
      this.select.value = member.name;
      this.root.style.setProperty("--lx-tone", `var(--${member.colour})`);
      const index = await indexOf(member);
      if (this.member !== member) return;
      this.index = index;
      this.plot();
      this.filter();
      const first = this.rows.find((row) => row.frequency !== 0 && !row.dead) || this.rows[0];
      await this.show(latent ?? first?.latent ?? null);
    }

    // The overview of all latents of the member, against what is chosen for its y axis.
    plot() {
      this.overview.hidden = !$("lx-y").value;
      if (this.overview.hidden) return;
      this.dots = saeOverview.draw(this.index.rows, $("lx-y").value, (latent) => this.show(latent));
      this.overview.replaceChildren(this.dots.drawing);
      this.mark();
    }

    mark() {
      if (this.dots) saeOverview.mark(this.dots, this.latent, new Set(this.rows.map((row) => row.latent)));
    }

    filter() {
      this.rows = ordered(this.index, $("lx-sort").value, $("lx-search").value);
      this.spacer.style.height = `${this.rows.length * ROW}px`;
      const { n, d_sae } = this.member;
      const inAll = n < d_sae ? `, of ${d_sae.toLocaleString("en")} in all` : "";
      this.root.querySelector(".lx-count").textContent = `${this.rows.length} of ${n} here${inAll}`;
      this.list.scrollTop = 0;
      this.mark();
      this.paint();
    }

    // Only the rows in sight exist.
    paint() {
      const first = Math.max(0, Math.floor(this.list.scrollTop / ROW) - 3);
      const last = Math.min(this.rows.length, first + Math.ceil(this.list.clientHeight / ROW) + 6);
      const { show } = SORTS[$("lx-sort").value];
      const options = this.rows.slice(first, last).map((row, i) => {
        const at = first + i, chosen = row.latent === this.latent;
        const words = visible(row.explanation || "") || (row.tokens || []).map(visible).join(" ")
          || (row.feature ? `feature ${row.feature[0]}` : "");
        const option = el("div", {
          role: "option", id: `lx-${this.side}-${row.latent}`, "data-latent": row.latent, "aria-selected": chosen,
          "aria-setsize": this.rows.length, "aria-posinset": at + 1, class: row.dead || row.frequency === 0 ? "lx-silent" : null,
        }, el("b", {}, String(row.latent)), el("span", { class: "lx-words" }, words), el("span", {}, show(row)));
        option.style.top = `${at * ROW}px`;
        return option;
      });
      this.spacer.replaceChildren(...options);
      const active = this.rows.some((row) => row.latent === this.latent) ? `lx-${this.side}-${this.latent}` : "";
      this.list.setAttribute("aria-activedescendant", active);
    }

    reveal() {
      const at = this.rows.findIndex((row) => row.latent === this.latent);
      const top = at * ROW, { scrollTop, clientHeight } = this.list;
      if (at >= 0 && (top < scrollTop || top + ROW > scrollTop + clientHeight)) this.list.scrollTop = top - clientHeight / 2 + ROW / 2;
      this.paint();
    }

    move(event) {
      const page = Math.max(1, Math.floor(this.list.clientHeight / ROW) - 1);
      const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
      if (!(event.key in steps) || !this.rows.length) return;
      event.preventDefault();
      const at = this.rows.findIndex((row) => row.latent === this.latent);
      const to = Math.min(this.rows.length - 1, Math.max(0, at + steps[event.key]));
      this.show(this.rows[to].latent);
    }

    // A latent of another SAE opens in the other pane, where there is one.
    hrefIn() {
      const beside = panes.find((pane) => pane !== this)?.side || this.side;
      return (name, latent) => {
        const member = manifest.members.find((other) => other.name === name);
        return member?.latents?.has(latent) ? hashOf({ [beside]: [name, latent] }) : null;
      };
    }

    random() {
      const fire = this.index.rows.filter((row) => row.frequency !== 0 && !row.dead);
      if (fire.length) this.show(fire[Math.floor(Math.random() * fire.length)].latent);
    }

    async show(latent) {
      this.latent = latent;
      writeHash();
      this.mark();
      this.reveal();
      const { member } = this, row = this.index.byLatent.get(latent), place = this.root.querySelector(".lx-latent");
      if (!row) return place.replaceChildren(el("p", {}, `Latent ${latent} of ${member.name} is not among those on this page.`));
      const rest = await restOf(member, row);
      if (this.latent !== latent || this.member !== member) return;
      const href = (other) => (this.index.byLatent.has(other) ? hashOf({ [this.side]: [member.name, other] }) : null);
      const metaHref = (meta) => `#meta:${meta}`;
      const link = () => location.href.split("#")[0] + hashOf();
      place.replaceChildren(...draw({ member, listed: row, rest, unit: manifest.unit, href, hrefIn: this.hrefIn(), metaHref, link }));
    }
  }

  // The hash: #latent=trained/0/12&beside=frozen_decoder/0/7 -------------------------------------------------------
  let panes = [];
  const NAMES = { left: "latent", right: "beside" };

  function hashOf(changes = {}) {
    const named = panes.filter((pane) => pane.latent !== null || changes[pane.side]).map((pane) => {
      const [member, latent] = changes[pane.side] || [pane.member.name, pane.latent];
      return `${NAMES[pane.side]}=${member.split("/").map(encodeURIComponent).join("/")}/${latent}`;
    });
    return `#${named.join("&")}`;
  }

  const isBlind = () => !$("lx-blind").hidden;
  const shownHash = () => new URLSearchParams(location.hash.slice(1)).has(NAMES.left);

  // Written once somebody has chosen a latent, so that a link to another section stays what it is.
  let touched = false;
  function writeHash() {
    if (touched && !isBlind()) history.replaceState(null, "", hashOf());
  }

  function fromHash(side) {
    const found = /^(.+)\/(\d+)$/.exec(new URLSearchParams(location.hash.slice(1)).get(NAMES[side]) || "");
    const member = found && manifest.members.find(({ name }) => name === found[1]);
    return member ? [member, Number(found[2])] : null;
  }

  async function followHash() {
    const meta = /^#meta:(\d+)$/.exec(location.hash);
    if (meta) {
      $("lx-search").value = `meta:${meta[1]}`;
      panes.forEach((pane) => pane.filter());
      return writeHash();
    }
    if (isBlind() || !shownHash()) return undefined;
    touched = true;
    return Promise.all(panes.map((pane) => {
      const wanted = fromHash(pane.side);
      return wanted && (wanted[0] !== pane.member || wanted[1] !== pane.latent) ? pane.change(...wanted) : null;
    }));
  }

  // Blind mode ---------------------------------------------------------------------------------------------------
  let answer = null;

  function blind(on) {
    $("lx-blind").hidden = !on;
    for (const id of ["lx-bar", "lx-panes"]) $(id).hidden = on;
    if (on) {
      history.replaceState(null, "", "#explorer");
      // The question and the buttons are to be in sight, however far down somebody was.
      next().then(() => $("lx-blind").scrollIntoView({ block: "start" }));
    } else {
      answer = null;
      panes.forEach((pane) => pane.reveal());
      writeHash();
      $("lx-blind-start").focus();
    }
  }

  async function next() {
    const root = $("lx-blind"), member = saeBlind.draw(manifest.members);
    const rows = (await indexOf(member)).rows.filter((row) => row.shows);
    const row = rows[Math.floor(Math.random() * rows.length)];
    const rest = await restOf(member, row);
    answer = { member, latent: row.latent, guessed: false };
    root.querySelector(".lx-latent").replaceChildren(...draw({ listed: {}, rest, unit: manifest.unit, blind: true }));
    root.querySelector(".lx-answer").replaceChildren(el("p", {}, saeBlind.tally()));
    for (const button of root.querySelectorAll("[data-guess]")) button.hidden = false;
    root.querySelector("[data-next]").hidden = true;
    root.querySelector("h3").focus();
  }

  function guess(kind) {
    if (!answer || answer.guessed) return;
    answer.guessed = true;
    const root = $("lx-blind"), { member, latent } = answer;
    const isRight = kind === (member.is_trained ? "trained" : "baseline");
    const target = `#${NAMES.left}=${member.name}/${latent}`;
    const link = el("a", { href: target }, `latent ${latent} of ${member.name}`);
    link.addEventListener("click", () => blind(false));
    root.querySelector(".lx-answer").replaceChildren(
      el("p", {}, el("strong", {}, isRight ? "✓ Right: " : "✗ Wrong: "), `${member.marker} `, link, "."),
      el("p", {}, saeBlind.count(isRight)));
    for (const button of root.querySelectorAll("[data-guess]")) button.hidden = true;
    root.querySelector("[data-next]").hidden = false;
    root.querySelector("[data-next]").focus();
  }

  // Controls -----------------------------------------------------------------------------------------------------
  function random() {
    touched = true;
    panes.forEach((pane) => pane.random());
  }

  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !$("lx-shortcuts").checked) return;
    if (event.target.closest("input, select, textarea, [contenteditable]")) return;
    const keys = isBlind()
      ? { t: () => guess("trained"), b: () => guess("baseline"), n: () => answer?.guessed && next(), Escape: () => blind(false) }
      : { r: random, g: () => $("lx-blind-start").hidden || blind(true), "/": () => $("lx-search").focus() };
    if (!(event.key in keys)) return;
    event.preventDefault();
    if (!isBlind()) $("lx-bar").scrollIntoView({ block: "nearest" });
    keys[event.key]();
  }

  function connect() {
    $("lx-search").addEventListener("input", () => panes.forEach((pane) => pane.filter()));
    $("lx-sort").addEventListener("change", () => panes.forEach((pane) => pane.filter()));
    $("lx-y").addEventListener("change", () => panes.forEach((pane) => pane.plot()));
    $("lx-random").addEventListener("click", random);
    $("lx-blind-start").addEventListener("click", () => blind(true));
    for (const button of $("lx-blind").querySelectorAll("[data-guess]")) button.addEventListener("click", () => guess(button.dataset.guess));
    $("lx-blind").querySelector("[data-next]").addEventListener("click", next);
    $("lx-blind").querySelector("[data-leave]").addEventListener("click", () => blind(false));
    $("lx-panes").addEventListener("pointerdown", () => { touched = true; });
    $("lx-panes").addEventListener("keydown", () => { touched = true; });
    document.addEventListener("keydown", key);
    window.addEventListener("hashchange", followHash);
  }

  async function start() {
    manifest = await unpack($("lx-manifest").textContent);
    panes = [...document.querySelectorAll(".lx-pane")].map((root, i) => new Pane(root, manifest.members[i]));
    // Links into other SAEs have to know which latents of these are here: their lists are small, and load while idle.
    const indexes = await Promise.all(panes.map((pane) => indexOf(pane.member)));
    for (const member of manifest.members) indexOf(member).then((index) => { member.latents = index.byLatent; });
    const known = new Set(indexes.flatMap(({ names }) => names));
    for (const { name, label } of saeOverview.axes(indexes)) $("lx-y").append(el("option", { value: name }, label));
    $("lx-y").parentElement.hidden = !$("lx-y").value;
    for (const [name, { label }] of Object.entries(SORTS)) if (known.has(name)) $("lx-sort").append(el("option", { value: name }, label));
    const trained = manifest.members.map((member) => member.is_trained);
    $("lx-blind-start").hidden = !(known.has("shows") && trained.includes(true) && trained.includes(false));
    for (const id of ["lx-bar", "lx-panes", "lx-keys"]) $(id).hidden = false;
    connect();
    const linked = shownHash();
    touched = linked;
    await Promise.all(panes.map((pane) => pane.change(...(fromHash(pane.side) || [pane.member, null]))));
    if (linked) $("explorer").scrollIntoView();
    $("explorer").dataset.ready = "";
  }

  function fail(error) {
    $("lx-title").after(el("p", { class: "lx-problem", role: "alert" }, `The latents cannot be shown: ${error.message}`));
  }

  const begin = () => $("lx-manifest") && start().catch(fail);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin); else begin();
})();
