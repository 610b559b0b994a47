"""Ask a server for structured answers as people do with a framework: python ask.py FRAMEWORK URL KEY MODEL.

Runs in an environment with the frameworks in it, and of this project knows nothing. Prints what came of it as
JSON, a list with one object for each way to ask.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any, Literal

from pydantic import BaseModel

ASK = "Is the sky blue?"


class Day(BaseModel):
    """When it was."""

    name: Literal["monday", "tuesday"]


class Claim(BaseModel):
    """A claim, judged."""

    verdict: Literal["right", "wrong"]
    sure: bool
    day: Day


def with_instructor(url: str, key: str, model: str) -> list[Any]:
    import instructor
    import openai

    answers = []
    for mode in (instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT):
        client = instructor.from_openai(openai.OpenAI(base_url=url, api_key=key, max_retries=0), mode=mode)
        answers.append(
            client.chat.completions.create(
                model=model,
                response_model=Claim,
                messages=[{"role": "user", "content": ASK}],
                max_retries=0,
            ).model_dump()
        )
    return answers


def with_pydantic_ai(url: str, key: str, model: str) -> list[Any]:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    chat = OpenAIChatModel(model, provider=OpenAIProvider(base_url=url, api_key=key))
    agent = Agent(chat, output_type=Claim)

    async def ask() -> list[Any]:
        whole = await agent.run(ASK)
        async with agent.run_stream(ASK) as streamed:
            return [whole.output.model_dump(), (await streamed.get_output()).model_dump()]

    return asyncio.run(ask())


def with_langchain(url: str, key: str, model: str) -> list[Any]:
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model=model, base_url=url, api_key=key, max_retries=0)
    return [
        chat.with_structured_output(Claim, method=method).invoke(ASK).model_dump()
        for method in ("function_calling", "json_schema")
    ]


def with_inspect(url: str, key: str, model: str) -> list[Any]:
    from inspect_ai.model import ChatMessageTool, ChatMessageUser, get_model
    from inspect_ai.tool import ToolFunction, ToolInfo, ToolParams
    from inspect_ai.util import json_schema

    claim = json_schema(Claim)
    tool = ToolInfo(
        name="submit",
        description="Submit the answer.",
        parameters=ToolParams(properties=claim.properties, required=claim.required),
    )
    asked = get_model(f"openai-api/tunery/{model}", base_url=url, api_key=key)

    async def ask() -> list[Any]:
        found = []
        for choice in ("any", ToolFunction(name="submit")):
            said = await asked.generate([ChatMessageUser(content=ASK)], tools=[tool], tool_choice=choice)
            (call,) = (said.message.tool_calls or [])[:1]
            found.append(call.arguments)
        result = ChatMessageTool(content="noted", tool_call_id=call.id, function="submit")
        history = [ChatMessageUser(content=ASK), said.message, result]
        again = await asked.generate(history, tools=[tool], tool_choice=ToolFunction(name="submit"))
        return [*found, (again.message.tool_calls or [])[0].arguments]

    return asyncio.run(ask())


def with_agents(url: str, key: str, model: str) -> list[Any]:
    import openai
    from agents import (
        Agent,
        ModelSettings,
        Runner,
        function_tool,
        set_default_openai_client,
        set_tracing_disabled,
    )

    set_default_openai_client(openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0))
    set_tracing_disabled(True)
    submitted: list[Claim] = []

    @function_tool
    def submit(claim: Claim) -> str:
        """Submit the judged claim."""
        submitted.append(claim)
        return "noted"

    judge = Agent(name="judge", instructions="Judge the claim.", model=model, output_type=Claim)
    worker = Agent(
        name="worker",
        instructions="Judge the claim and submit it.",
        model=model,
        tools=[submit],
        model_settings=ModelSettings(tool_choice="required"),
        tool_use_behavior="stop_on_first_tool",
    )

    async def ask() -> list[Any]:
        whole = await Runner.run(judge, ASK)
        streamed = Runner.run_streamed(judge, ASK)
        kinds = [event.type async for event in streamed.stream_events()]
        assert "raw_response_event" in kinds
        again = await Runner.run(judge, "Sure?", previous_response_id=whole.last_response_id)
        called = await Runner.run(worker, ASK)
        assert called.final_output == "noted"
        history = [*called.to_input_list(), {"role": "user", "content": "Once more."}]
        after = await Runner.run(judge, history)
        outputs = [whole, streamed, again, after]
        return [*(o.final_output.model_dump() for o in outputs), *(c.model_dump() for c in submitted)]

    return asyncio.run(ask())


def with_langchain_responses(url: str, key: str, model: str) -> list[Any]:
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model=model, base_url=url, api_key=key, max_retries=0, use_responses_api=True)
    return [
        chat.with_structured_output(Claim, method=method).invoke(ASK).model_dump()
        for method in ("function_calling", "json_schema")
    ]


def with_pydantic_ai_responses(url: str, key: str, model: str) -> list[Any]:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    responses = OpenAIResponsesModel(model, provider=OpenAIProvider(base_url=url, api_key=key))
    agent = Agent(responses, output_type=Claim)

    async def ask() -> list[Any]:
        whole = await agent.run(ASK)
        async with agent.run_stream(ASK) as streamed:
            return [whole.output.model_dump(), (await streamed.get_output()).model_dump()]

    return asyncio.run(ask())


def main() -> None:
    name, url, key, model = sys.argv[1:]
    os.environ["OPENAI_API_KEY"] = key
    answers = globals()[f"with_{name}"](url, key, model)
    sys.stdout.write("\n" + json.dumps([Claim.model_validate(a).model_dump() for a in answers]) + "\n")


if __name__ == "__main__":
    main()
