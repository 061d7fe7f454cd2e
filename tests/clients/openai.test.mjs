// The server at FEWRON_SERVER with OpenAI's client for Node.
import assert from "node:assert/strict";
import { it } from "node:test";

import OpenAI from "openai";

const client = new OpenAI({
  baseURL: `${process.env.FEWRON_SERVER}/v1`, apiKey: "none", maxRetries: 0,
});
const messages = [{ role: "user", content: "Why is the sky blue?" }];
const settings = { model: "model:dense", messages, max_tokens: 8, temperature: 0 };

it("lists the models", async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.deepEqual(ids.slice(0, 2), ["model", "model:dense"]);
});

it("answers a chat, whole and streamed", async () => {
  const whole = await client.chat.completions.create(settings);
  assert.equal(whole.model, "model:dense");
  assert.ok(whole.choices[0].message.content.length > 0);
  const stream = await client.chat.completions.create({ ...settings, stream: true });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  assert.equal(text, whole.choices[0].message.content);
});

it("goes on with a text", async () => {
  const { choices } = await client.completions.create({
    model: "model", prompt: "Once upon a time", max_tokens: 4, logprobs: 1,
  });
  assert.equal(choices[0].logprobs.tokens.length, 4);
});

it("runs sparse where the request asks for it", async () => {
  const reply = await client.chat.completions.create({
    ...settings, model: "model", fewron: { policy: "magnitude", sparsity: 0.25 },
  });
  assert.equal(reply.model, "model:magnitude@0.25");
});

it("tells errors as the client's own", async () => {
  await assert.rejects(
    client.chat.completions.create({ ...settings, model: "gpt-4" }),
    (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found",
  );
  await assert.rejects(
    client.chat.completions.create({ ...settings, tools: [{ type: "function", function: { name: "f" } }] }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === "tools",
  );
});

it("breaks off a stream that is no longer wanted", async () => {
  const before = await status();
  const stream = await client.chat.completions.create({
    ...settings, max_tokens: 2000, temperature: 1, stream: true,
  });
  for await (const _ of stream) break;
  stream.controller.abort();
  for (let waited = 0; waited < 600; waited += 1) {
    const { totals, load } = await status();
    if (load.running === 0 && totals.requests === before.totals.requests + 1) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail("the request still runs");
});

async function status() {
  const reply = await fetch(`${process.env.FEWRON_SERVER}/fewron/status`);
  return reply.json();
}
