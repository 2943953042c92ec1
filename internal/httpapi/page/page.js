"use strict";
// Makes the page from /v1/openapi.json. All that it shows is put in as text,
// never as markup.

const element = (name, attributes = {}, ...children) => {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  e.append(...children);
  return e;
};

// prose shows a description: paragraphs, and `code` between backticks.
const prose = (text) => {
  const p = element("p");
  text.split("`").forEach((part, i) => p.append(i % 2 ? element("code", {}, part) : part));
  return p;
};

const byReference = (spec, schema) =>
  schema && schema.$ref ? schema.$ref.slice(2).split("/").reduce((o, k) => o[k], spec) : schema;

const field = (parameter) => {
  const input = element("input", { name: parameter.name, "data-in": parameter.in, autocomplete: "off", spellcheck: "false" });
  if (parameter.required) input.required = true;
  if (parameter.required && parameter.example !== undefined) input.value = parameter.example;
  if (parameter.example !== undefined) input.placeholder = parameter.example;
  const note = element("small");
  note.append(...prose(parameter.description || "").childNodes);
  return element("label", {}, `${parameter.name} (${parameter.in}${parameter.required ? ", required" : ""})`, input, note);
};

const bodyFields = (body) => {
  const types = Object.keys(body.content);
  const type = element("select", { "aria-label": "Content type" });
  for (const t of types) type.append(element("option", {}, t === "*/*" ? "text/plain" : t));
  const area = element("textarea", { name: "body", spellcheck: "false" });
  const show = () => {
    const example = body.content[types[type.selectedIndex]].example;
    area.value = example === undefined ? "" : typeof example === "string" ? example : JSON.stringify(example, null, 2);
  };
  type.addEventListener("change", show);
  show();
  return { nodes: [element("label", {}, "Content type", type), element("label", {}, "Body", area)], type, area };
};

// target is the path with its parameters filled in, the query, and the headers.
const target = (path, form) => {
  const query = new URLSearchParams();
  const headers = {};
  for (const input of form.querySelectorAll("input[data-in]")) {
    const value = input.value;
    if (value === "" && !input.required) continue;
    switch (input.dataset.in) {
      case "path":
        path = path.replace(`{${input.name}}`, value.replace(/^\//, "").split("/").map(encodeURIComponent).join("/"));
        break;
      case "query":
        query.set(input.name, value);
        break;
      case "header":
        headers[input.name] = value;
    }
  }
  const text = query.toString();
  return { url: text ? `${path}?${text}` : path, headers };
};

const quote = (s) => `'${s.replaceAll("'", "'\\''")}'`;

// command is the same request for a shell.
const command = (method, url, headers, body) => {
  const parts = ["curl"];
  if (method !== "GET") parts.push("-X", method);
  for (const [k, v] of Object.entries(headers)) parts.push("-H", quote(`${k}: ${v}`));
  if (body !== undefined) parts.push("--data-binary", quote(body));
  parts.push(quote(location.origin + url));
  return parts.join(" ");
};

const tryForm = (method, path, operation) => {
  const form = element("form");
  for (const parameter of operation.parameters || []) form.append(field(parameter));
  const body = operation.requestBody && bodyFields(operation.requestBody);
  if (body) form.append(...body.nodes);
  const button = element("button", { type: "submit" }, "Try it");
  const shell = element("pre", { "aria-label": "The same for a shell" });
  const output = element("pre", { role: "status", "aria-live": "polite", "aria-label": "Answer" });
  shell.hidden = output.hidden = true;
  form.append(button, shell, output);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { url, headers } = target(path, form);
    const text = body ? body.area.value : undefined;
    if (body) headers["Content-Type"] = body.type.value;
    shell.textContent = command(method, url, headers, text);
    output.textContent = "…";
    shell.hidden = output.hidden = false;
    button.disabled = true;
    try {
      const answer = await fetch(url, { method, headers, body: text, cache: "no-store" });
      output.textContent = `${answer.status} ${answer.statusText}\n\n${(await answer.text()).slice(0, 100000)}`;
    } catch (error) {
      output.textContent = String(error);
    }
    button.disabled = false;
  });
  return form;
};

const answers = (spec, operation) => {
  const items = element("ul");
  for (const [status, answer] of Object.entries(operation.responses)) {
    items.append(element("li", {}, element("code", {}, status), " ", byReference(spec, answer).description));
  }
  return element("div", {}, element("h4", {}, "Answers"), items);
};

const show = (spec) => {
  document.getElementById("about").replaceWith(prose(spec.info.description));
  const main = document.getElementById("operations");
  const contents = element("ul");
  for (const tag of spec.tags) {
    const section = element("section", {}, element("h2", {}, tag.name), prose(tag.description));
    for (const [path, item] of Object.entries(spec.paths)) {
      for (const [verb, operation] of Object.entries(item)) {
        if (!operation.tags.includes(tag.name) || path.startsWith("/v1/docs")) continue;
        const method = verb.toUpperCase();
        const head = element("summary", {}, element("span", { class: "method" }, method), element("code", {}, path), ` ${operation.summary}`);
        const details = element("details", { id: operation.operationId }, head);
        if (operation.description) details.append(prose(operation.description));
        details.append(tryForm(method, path, operation), answers(spec, operation));
        section.append(details);
        const link = element("a", { href: `#${operation.operationId}` }, operation.summary);
        link.addEventListener("click", () => { details.open = true; });
        contents.append(element("li", {}, link));
      }
    }
    main.append(section);
  }
  const shapes = element("section", {}, element("h2", {}, "Shapes"));
  for (const [name, schema] of Object.entries(spec.components.schemas)) {
    shapes.append(element("details", {}, element("summary", {}, name), element("pre", {}, JSON.stringify(schema, null, 2))));
  }
  main.append(shapes);
  document.getElementById("contents").append(contents);
  const wanted = document.getElementById(location.hash.slice(1));
  if (wanted && wanted.tagName === "DETAILS") wanted.open = true;
};

fetch("/v1/openapi.json")
  .then((answer) => answer.json())
  .then(show)
  .catch((error) => { document.getElementById("about").textContent = String(error); });
