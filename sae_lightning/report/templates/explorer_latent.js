"use strict";
// Draws one latent. Whatever a model or a corpus says becomes text nodes and attributes, never markup.
const saeLatent = (() => {
  const QUARTERS = ["Strongest quarter", "Second quarter", "Third quarter", "Weakest quarter"];
  const SVG = "http://www.w3.org/2000/svg";

  function build(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(name, value);
    node.append(...children.filter((child) => child !== null));
    return node;
  }
  const el = (tag, attributes = {}, ...children) => build(document.createElement(tag), attributes, children);
  const svg = (tag, attributes = {}, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

  const number = (value) => (value === null || value === undefined ? "unknown" : String(Number(value.toPrecision(3))));
  const percent = (value) => `${number(100 * value)} %`;

  // What cannot be seen, or would move the text around it, becomes a symbol.
  function visible(text) {
    return text
      .replace(/(^|[\r\n]) +/g, (spaces) => spaces.replaceAll(" ", "·"))
      .replace(/\r\n|[\r\n\u0085\u2028\u2029]/g, "⏎")
      .replace(/\t/g, "⇥")
      .replace(/[\u0000-\u001f\u007f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g, escaped)
      .replace(/[\ud800-\udfff]/gu, escaped); // with u: only surrogates without a partner
  }
  const escaped = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;

  // Leading spaces belong to nearly every token: they are there, but fainter.
  function token(text) {
    const spaces = /^ */.exec(text)[0].length;
    return [spaces ? el("span", { class: "lx-space" }, "·".repeat(spaces)) : null, visible(text.slice(spaces))];
  }

  function textExample(example, most, blind) {
    const text = el("p", { class: "lx-text", dir: "auto" });
    example.tokens.forEach((each, i) => {
      const activation = example.activations[i];
      text.append(el("wbr"));
      if (!activation) return text.append(el("span", {}, ...token(each)));
      const told = blind ? `${percent(activation / most)} of its maximum` : `activation ${number(activation)}`;
      const mark = el("mark", { title: told }, ...token(each), el("span", { class: "lx-hidden" }, ` (${told})`));
      mark.style.setProperty("--lx-level", (activation / most).toFixed(2));
      text.append(mark);
    });
    return text;
  }

  // The image, and over it what each patch does.
  let heatShown = true;
  function imageExample(example, most, blind) {
    if (!/^data:image\/(png|jpeg|webp|gif);base64,/.test(example.src)) return el("p", {}, "No image.");
    const told = blind ? `${percent(peakOf(example) / most)} of its maximum` : `activation ${number(peakOf(example))}`;
    const alt = `${visible(example.shows)}; ${told}${example.elsewhere ? ", which is not at a patch" : ""}`;
    const heat = example.heat ? heatMap(example.heat, most) : null;
    return el("span", { class: "lx-frame", title: alt }, el("img", { src: example.src, alt }), heat);
  }

  function heatMap(rows, most) {
    const heat = el("span", { class: "lx-heat", "aria-hidden": "true" });
    heat.hidden = !heatShown;
    heat.style.gridTemplateColumns = `repeat(${rows[0].length}, 1fr)`;
    for (const value of rows.flat()) {
      const cell = el("span");
      if (value > 0) cell.style.setProperty("--lx-level", (value / most).toFixed(2));
      heat.append(cell);
    }
    return heat;
  }

  function heatToggle() {
    const toggle = el("button", { type: "button", "aria-pressed": heatShown }, "Heat map");
    toggle.addEventListener("click", () => {
      heatShown = !heatShown;
      toggle.setAttribute("aria-pressed", heatShown);
      for (const heat of document.querySelectorAll(".lx-heat")) heat.hidden = !heatShown;
    });
    return toggle;
  }

  const peakOf = (example) => (example.type === "image" ? example.activation : Math.max(0, ...example.activations));

  function examples(list, most, blind) {
    const rows = list.map((example) => {
      const told = [blind ? "" : number(peakOf(example)), example.elsewhere ? "class" : ""].join(" ").trim();
      const peak = told ? el("span", { class: "lx-peak", "aria-hidden": "true" }, told) : null;
      return el("li", {}, peak, (example.type === "image" ? imageExample : textExample)(example, most, blind));
    });
    const images = list.every((example) => example.type === "image");
    return el("ol", { class: images ? "lx-examples lx-gallery" : "lx-examples" }, ...rows);
  }

  function histogram(found, unit, blind) {
    const width = 320, height = 76, highest = Math.max(...found.counts), bar = width / found.counts.length;
    const cuts = found.n < 4 ? [] : found.cuts;
    const what = {
      token: ["text", " in which it fires, by its largest activation in each"],
      position: ["image", " on which it fires, by its largest activation on each"],
      sample: ["sample", " on which it fires, by activation"],
    }[unit];
    const told = `${blind ? "" : `${found.n} `}${what[0]}${found.n === 1 ? "" : "s"}${what[1]}`;
    const values = blind ? "" : `: median ${number(found.cuts[1])}, largest ${number(found.most)}`;
    const drawing = svg("svg", { viewBox: `0 -2 ${width} ${height + 22}`, role: "img", "aria-label": told + values });
    found.counts.forEach((count, i) => {
      const tall = count ? Math.max(1.5, (height * count) / highest) : 0;
      const at = { x: i * bar + 0.5, y: height - tall, width: bar - 1, height: tall, class: "lx-bin" };
      drawing.append(svg("rect", at, blind ? "" : svg("title", {}, `${count}`)));
    });
    for (const cut of cuts) {
      const x = (width * cut) / found.most;
      drawing.append(svg("line", { x1: x, x2: x, y1: 0, y2: height + 4, class: "lx-cut" }));
    }
    drawing.append(svg("line", { x1: 0, x2: width, y1: height, y2: height, class: "lx-axis" }));
    drawing.append(svg("text", { x: 0, y: height + 16 }, "0"));
    drawing.append(svg("text", { x: width, y: height + 16, "text-anchor": "end" }, blind ? "largest" : number(found.most)));
    return el("figure", { class: "lx-histogram" }, drawing, el("figcaption", {}, cuts.length ? `${told}; dashes part the quarters` : told));
  }

  // What the direction does to all tokens of the vocabulary. Most counts are small beside the middle: their root is drawn.
  function logitHistogram(found) {
    const width = 320, height = 60, bar = width / found.counts.length, highest = Math.sqrt(Math.max(...found.counts));
    const total = found.counts.reduce((sum, count) => sum + count, 0).toLocaleString("en");
    const told = `What a unit of it adds to the logits of ${total} tokens; heights are roots of counts`;
    const drawing = svg("svg", { viewBox: `0 -2 ${width} ${height + 22}`, role: "img", "aria-label": `${told}: from ${number(found.low)} to ${number(found.high)}` });
    found.counts.forEach((count, i) => {
      const tall = (height * Math.sqrt(count)) / highest;
      drawing.append(svg("rect", { x: i * bar + 0.5, y: height - tall, width: bar - 1, height: tall, class: "lx-bin" }, svg("title", {}, `${count} tokens`)));
    });
    const zero = (width * -found.low) / (found.high - found.low || 1);
    if (zero > 0 && zero < width) {
      drawing.append(svg("line", { x1: zero, x2: zero, y1: 0, y2: height + 4, class: "lx-cut" }));
      drawing.append(svg("text", { x: zero, y: height + 16, "text-anchor": "middle" }, "0"));
    }
    drawing.append(svg("line", { x1: 0, x2: width, y1: height, y2: height, class: "lx-axis" }));
    drawing.append(svg("text", { x: 0, y: height + 16 }, number(found.low)));
    drawing.append(svg("text", { x: width, y: height + 16, "text-anchor": "end" }, number(found.high)));
    return el("figure", { class: "lx-histogram" }, drawing, el("figcaption", {}, told));
  }

  // A page from disk may not have the clipboard: then what it would hold is selected in a field.
  function copyButton(link) {
    const button = el("button", { type: "button", class: "lx-copy" }, "Copy link");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(link());
        button.textContent = "Copied";
      } catch {
        const field = el("input", { type: "text", readonly: "", "aria-label": "Link to this latent", value: link() });
        button.replaceWith(field);
        field.select();
      }
    });
    return button;
  }

  function tokens(pairs, blind) {
    const items = pairs.map(([text, value]) =>
      el("li", {}, el("code", {}, ...token(text)), blind ? null : el("span", {}, ` ${value > 0 ? "+" : ""}${number(value)}`)));
    return el("ul", { class: "lx-chips" }, ...items);
  }

  function related(pairs, link) {
    const items = pairs.map(([latent, value]) => el("li", {}, link(latent), el("span", {}, ` ${number(value)}`)));
    return el("ul", { class: "lx-chips" }, ...items);
  }

  // The latent, its meta-latents, and others that share them; each name is a link to what it names.
  function metaGraph(latent, found, href, metaHref) {
    const row = 22, most = 4, columns = [0, 140, 276], width = 340;
    const drawing = svg("svg", { role: "group", "aria-label": "Meta-latents and the latents that share them" });
    const lines = svg("g", { class: "lx-edges" });
    drawing.append(lines);
    const write = (x, y, name, target, told) => {
      const text = svg("text", { x, y: y + 4 }, name);
      const inside = target ? svg("a", { href: target, "aria-label": told }, svg("title", {}, told), text) : text;
      drawing.append(inside);
    };
    const join = (x1, y1, x2, y2, value) => {
      const half = (x1 + x2) / 2;
      const d = `M${x1} ${y1}C${half} ${y1} ${half} ${y2} ${x2} ${y2}`;
      lines.append(svg("path", { d, "stroke-width": Math.min(6, 0.5 + 6 * value).toFixed(2) }));
    };
    let y = 12;
    const middles = found.latents.map(([meta, value, others]) => {
      const shown = others.slice(0, most);
      const middle = y + (row * Math.max(0, shown.length - 1)) / 2;
      write(columns[1], middle, `meta ${meta}`, metaHref(meta), `meta-latent ${meta}, ${number(value)}: list its latents`);
      shown.forEach(([other, shared], i) => {
        join(columns[1] + 72, middle, columns[2] - 6, y + i * row, shared);
        write(columns[2], y + i * row, String(other), href(other), `latent ${other}, ${number(shared)}`);
      });
      y += row * Math.max(1, shown.length) + 8;
      return [middle, value];
    });
    const centre = y / 2 - 4;
    for (const [middle, value] of middles) join(columns[0] + 84, centre, columns[1] - 6, middle, value);
    drawing.append(svg("text", { x: columns[0], y: centre + 4, class: "lx-self" }, `latent ${latent}`));
    drawing.setAttribute("viewBox", `0 0 ${width} ${y}`);
    return el("div", { class: "lx-graph" }, drawing);
  }

  function facts(listed, rest, unit) {
    const rows = [];
    if (listed.frequency !== undefined) rows.push(["fires on", `${percent(listed.frequency)} of ${unit}s`]);
    if (listed.dead) rows.push(["dead", "at the end of training"]);
    if (listed.score !== undefined) rows.push(["score", `${number(listed.score)} (chance 0.5)`]);
    if (listed.stability !== undefined) {
      const above = `above ${percent(rest.above_random)} of random directions`;
      rows.push(["stability over seeds", `${number(listed.stability)}, ${above}`]);
    }
    if (listed.cosine_to_start !== undefined) rows.push(["cosine to its start", number(listed.cosine_to_start)]);
    if (rest.parts) rows.push(["share of decoder norm", rest.parts.map(([part, share]) => `${part} ${percent(share)}`).join(", ")]);
    if (listed.feature) rows.push(["nearest true feature", `${listed.feature[0]}, cosine ${number(listed.feature[1])}`]);
    for (const of of rest.stitched || []) {
      rows.push([`inserted into ${of.small}`, `${of.class}, nearest cosine there ${number(of.best_cosine)}`]);
    }
    return el("dl", { class: "lx-facts" }, ...rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  }

  // `listed` is its row of the index, `rest` what its chunk says; with `blind` nothing tells where it comes from.
  function draw({ member, listed, rest, unit, href, hrefIn, metaHref, link, blind }) {
    const parts = [];
    const section = (title, ...children) => parts.push(el("h4", {}, title), ...children.filter((child) => child !== null));
    const shown = [...(rest.examples || []), ...(rest.quarters || []).flat()];
    const most = Math.max(1e-12, ...shown.map(peakOf));
    if (!blind) {
      const name = el("span", { class: "lx-badge" }, `${member.marker} ${member.name}`);
      name.style.setProperty("--lx-tone", `var(--${member.colour})`);
      parts.push(el("h3", {}, name, ` latent ${listed.latent}`), copyButton(link));
      if (listed.explanation !== undefined) parts.push(el("p", { class: "lx-explanation", dir: "auto" }, visible(listed.explanation)));
      parts.push(facts(listed, rest, unit));
    }
    const hasMaps = shown.some((example) => example.heat);
    if (rest.examples) section("Fires most on", hasMaps ? heatToggle() : null, examples(rest.examples, most, blind));
    else if (unit === "token") section("Fires most on", el("p", {}, "nothing in the held-out text."));
    else if (unit === "position") section("Fires most on", el("p", {}, "nothing in the held-out images."));
    if (rest.histogram || rest.quarters) section("From strong to weak");
    if (rest.histogram) parts.push(histogram(rest.histogram, unit, blind));
    (rest.quarters || []).forEach((list, i) => parts.push(el("h5", {}, QUARTERS[i]), examples(list, most, blind)));
    if (rest.promoted) {
      section("Tokens it promotes", tokens(rest.promoted, blind));
      section("Tokens it suppresses", tokens(rest.suppressed, blind));
      if (!blind && rest.logits) parts.push(logitHistogram(rest.logits));
    }
    if (!blind) {
      const named = (target, text) =>
        target ? el("a", { href: target }, text) : el("span", { title: "not among the latents on this page" }, text);
      const own = (other) => named(href(other), String(other));
      section("Nearest in its own dictionary, by cosine", related(rest.neighbours || [], own));
      if (rest.elsewhere) {
        const items = rest.elsewhere.map(([name, other, cosine]) =>
          el("li", {}, named(hrefIn(name, other), `${name} ${other}`), el("span", {}, ` ${number(cosine)}`)));
        section("Nearest in the others, by cosine", el("ul", { class: "lx-chips" }, ...items));
      }
      if (rest.together) section("Fires together with, of those here, by correlation", related(rest.together, own));
      if (rest.meta) {
        section("Meta-latents, and who shares them",
          el("p", {}, rest.meta.latents.length ? `They explain ${number(rest.meta.explained)} of its direction.` : "None fires on it."),
          metaGraph(listed.latent, rest.meta, href, metaHref));
      }
    }
    return parts;
  }

  return { draw, el, number, percent, svg, visible };
})();
