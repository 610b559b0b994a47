// Ask a server as people do with OpenAI's client for Node: node ask.mjs FOLDER URL KEY MODEL, where FOLDER has node_modules with `openai`.
// Every client is as it comes: its retries, its timeouts, its pages. Prints one JSON object.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { writeFileSync, createReadStream, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [folder, baseURL, apiKey, model] = process.argv.slice(2);
const require = createRequire(join(folder, "package.json"));
const { default: OpenAI } = await import(pathToFileURL(require.resolve("openai")).href);
const client = new OpenAI({ baseURL, apiKey });
const messages = [{ role: "user", content: "Is the sky blue?" }];
const schema = {
  type: "object",
  properties: { verdict: { type: "string", enum: ["right", "wrong"] }, sure: { type: "boolean" } },
  required: ["verdict", "sure"],
  additionalProperties: false,
};
const found = {};

const whole = await client.chat.completions.create({ model, messages, max_tokens: 8 });
found.whole = typeof whole.choices[0].message.content;

let text = "";
for await (const chunk of await client.chat.completions.create({ model, messages, max_tokens: 8, stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? "";
}
found.streamed = text === whole.choices[0].message.content;

const held = await client.chat.completions.create({
  model,
  messages,
  response_format: { type: "json_schema", json_schema: { name: "claim", strict: true, schema } },
});
found.held = JSON.parse(held.choices[0].message.content);

const called = await client.chat.completions.create({
  model,
  messages,
  tools: [{ type: "function", function: { name: "judge", strict: true, parameters: schema } }],
  tool_choice: "required",
});
found.called = JSON.parse(called.choices[0].message.tool_calls[0].function.arguments);

const answered = await client.responses.create({ model, input: "Is the sky blue?", max_output_tokens: 16 });
found.responses = answered.output_text;
const events = [];
for await (const event of await client.responses.create({ model, input: "Is it?", max_output_tokens: 16, stream: true })) {
  events.push(event.type);
}
found.events = [events[0], events.at(-1)];

const rows = join(mkdtempSync(join(tmpdir(), "rows-")), "rows.jsonl");
const row = { messages: [...messages, { role: "assistant", content: "yes" }] };
writeFileSync(rows, Array(12).fill(JSON.stringify(row)).join("\n"));
const file = await client.files.create({ file: createReadStream(rows), purpose: "fine-tune" });
found.file = (await client.files.retrieve(file.id)).bytes > 0;
const listed = [];
for await (const each of client.files.list({ limit: 1 })) listed.push(each.id);
found.listed = listed.includes(file.id);
found.content = (await (await client.files.content(file.id)).text()).split("\n").length;
found.deleted = (await client.files.delete(file.id)).deleted;

const models = [];
for await (const each of client.models.list()) models.push(each.id);
found.models = models.includes(model);

try {
  await client.chat.completions.create({ model: "nobody", messages });
} catch (error) {
  found.unknown = [error instanceof OpenAI.NotFoundError, error.status, error.code, Boolean(error.requestID)];
}
try {
  await new OpenAI({ baseURL, apiKey: "wrong" }).models.list();
} catch (error) {
  found.refused = error instanceof OpenAI.AuthenticationError;
}
console.log(JSON.stringify(found));
