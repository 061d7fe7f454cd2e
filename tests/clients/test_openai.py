"""The server with OpenAI's client for Python."""

import asyncio
import json
import unittest

import httpx2
import openai

from server import NAME, Server

QUESTION = [{"role": "user", "content": "Why is the sky blue?"}]


class OpenAi(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--policy", "gate", "--sparsity", "0.3", "--api-key", "secret")
        cls.base_url = cls.server.url + "/v1"
        cls.client = openai.OpenAI(base_url=cls.base_url, api_key="secret", max_retries=0)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.server.__exit__(None)

    def chat(self, **settings):
        settings = {"model": f"{NAME}:dense", "temperature": 0, "max_tokens": 12, **settings}
        return self.client.chat.completions.create(messages=QUESTION, **settings)

    def test_models(self):
        ids = [model.id for model in self.client.models.list()]
        self.assertEqual(ids, [NAME, f"{NAME}:dense", f"{NAME}:gate@0.3"])
        self.assertEqual(self.client.models.retrieve(NAME).owned_by, "fewron")

    def test_chat(self):
        reply = self.chat()
        self.assertEqual(reply.model, f"{NAME}:dense")
        self.assertEqual(reply.usage.completion_tokens, 12)
        self.assertEqual(reply.choices[0].finish_reason, "length")
        self.assertTrue(reply.choices[0].message.content)
        self.assertEqual(reply.fewron["variant"], "dense")

    def test_the_message_can_be_sent_back(self):
        message = self.chat().choices[0].message
        more = [*QUESTION, message, {"role": "user", "content": "Go on."}]
        reply = self.client.chat.completions.create(model=NAME, messages=more, max_tokens=2)
        self.assertTrue(reply.choices[0].message.content)

    def test_streamed_chat(self):
        whole = self.chat(n=2, temperature=1, seed=5, logprobs=True, top_logprobs=3)
        options = {"include_usage": True}
        stream = self.chat(
            n=2, temperature=1, seed=5, logprobs=True, top_logprobs=3, stream=True, stream_options=options
        )
        texts, logprobs, usage = ["", ""], [[], []], None
        for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                logprobs[choice.index] += choice.logprobs.content if choice.logprobs else []
        for choice, text, values in zip(whole.choices, texts, logprobs):
            self.assertEqual(choice.message.content, text)
            self.assertEqual(choice.logprobs.content, values)
        self.assertEqual(usage.completion_tokens, whole.usage.completion_tokens)

    def test_stream_helper(self):
        with self.client.chat.completions.stream(
            model=NAME, messages=QUESTION, stop=["."], temperature=0
        ) as stream:
            events = [event.type for event in stream]
            final = stream.get_final_completion()
        self.assertIn("content.delta", events)
        self.assertTrue(final.choices[0].message.content)

    def test_sparsity_by_request(self):
        body = {"fewron": {"policy": "gate", "sparsity": 0.5}}
        reply = self.chat(model=NAME, extra_body=body)
        self.assertEqual(reply.model, f"{NAME}:gate@0.5")
        self.assertEqual(reply.fewron, {"variant": "gate@0.5", "policy": "gate", "sparsity": 0.5})
        self.assertEqual(self.chat(model=NAME).model, f"{NAME}:gate@0.3")

    def test_completions(self):
        create = self.client.completions.create
        settings = {"model": f"{NAME}:dense", "temperature": 0, "max_tokens": 5}
        one = create(prompt="Once upon a time", logprobs=2, echo=True, **settings)
        choice = one.choices[0]
        self.assertTrue(choice.text.startswith("Once upon a time"))
        self.assertEqual(choice.text, "".join(choice.logprobs.tokens))
        for token, offset in zip(choice.logprobs.tokens, choice.logprobs.text_offset):
            self.assertEqual(choice.text[offset : offset + len(token)], token)
        many = create(prompt=["Once upon a time", "The sky"], n=2, **settings)
        self.assertEqual([choice.index for choice in many.choices], [0, 1, 2, 3])
        self.assertEqual("Once upon a time" + many.choices[0].text, choice.text)
        stream = create(prompt="Once upon a time", stream=True, **settings)
        streamed = "".join(chunk.choices[0].text for chunk in stream)
        self.assertEqual(streamed, many.choices[0].text)

    def test_lines_of_a_stream_end_where_all_clients_think(self):
        # httpx2 splits lines as `str.splitlines` does.
        odd = "one\x0btwo\x0cthree\x1cfour\x85five\u2028six\u2029seven"
        body = {"model": NAME, "prompt": odd, "max_tokens": 2, "echo": True, "stream": True}
        headers = {"Authorization": "Bearer secret"}
        text = ""
        with httpx2.stream("POST", f"{self.base_url}/completions", json=body, headers=headers) as reply:
            lines = [line for line in reply.iter_lines() if line]
        self.assertEqual(lines.pop(), "data: [DONE]")
        for line in lines:
            text += json.loads(line.removeprefix("data: "))["choices"][0]["text"]
        self.assertTrue(text.startswith(odd), repr(text))

    def test_errors_are_the_client_s_own(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.chat(model="gpt-4")
        self.assertEqual((caught.exception.code, caught.exception.param), ("model_not_found", "model"))
        with self.assertRaises(openai.BadRequestError) as caught:
            self.chat(presence_penalty=1)
        self.assertEqual(caught.exception.param, "presence_penalty")
        with self.assertRaises(openai.BadRequestError) as caught:
            self.chat(extra_body={"foo": 1})
        self.assertIn("Unrecognized request argument supplied: foo", str(caught.exception))
        wrong = openai.OpenAI(base_url=self.base_url, api_key="wrong", max_retries=0)
        with wrong, self.assertRaises(openai.AuthenticationError):
            wrong.models.list()

    def test_many_at_once(self):
        async def ask(client, index):
            reply = await client.chat.completions.create(
                model=f"{NAME}:dense", messages=QUESTION, max_tokens=8, temperature=0
            )
            return reply.choices[0].message.content

        async def all_of_them():
            async with openai.AsyncOpenAI(base_url=self.base_url, api_key="secret") as client:
                return await asyncio.gather(*(ask(client, index) for index in range(24)))

        answers = asyncio.run(all_of_them())
        self.assertEqual(len(set(answers)), 1)


if __name__ == "__main__":
    unittest.main()
