"""The official client, as its users write it: `openai_client.py MODE BASE_URL`. Prints what it gets, as it gets it."""

import sys

import openai

mode, base_url = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key="sk-dummy-of-the-client", max_retries=0, timeout=30)
question = [{"role": "user", "content": "Say hello."}]

try:
    if mode == "models":
        print(" ".join(model.id for model in client.models.list()))
    elif mode == "whole":
        answer = client.chat.completions.create(model="test-model", messages=question)
        print(answer.choices[0].message.content)
    else:
        for chunk in client.chat.completions.create(model="test-model", messages=question, stream=True):
            print(chunk.choices[0].delta.content, flush=True)
        print("end", flush=True)
except openai.APIStatusError as error:
    print(error.status_code, error.body)
