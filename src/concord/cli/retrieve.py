"""`concord concepts retrieve`, as the command line has it."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from concord.cli.common import user_errors


def retrieve(
    source: Annotated[
        str,
        Argument(
            metavar="SOURCE",
            help="Class names: a text, CSV or Parquet file, a folder of images, or a list (imagenet-100, ...).",
        ),
    ],
    out: Annotated[Path | None, Option(help="The bank to fill; SOURCE.json here if not given.")] = None,
    prompt: Annotated[
        str, Option(help="distinctive: what look-alikes do not have; descriptive: the whole look.")
    ] = "distinctive",
    about: Annotated[str, Option(help='What the images are, as in "clothing on plain backgrounds".')] = "",
    base_url: Annotated[str | None, Option(help="The server; OPENAI_BASE_URL if not given.")] = None,
    model: Annotated[str | None, Option(help="The model; OPENAI_MODEL if not given.")] = None,
    key_env: Annotated[
        str | None, Option(metavar="NAME", help="The environment variable with the key; OPENAI_API_KEY.")
    ] = None,
    phrases: Annotated[int, Option(min=1, max=50, help="Phrases a class.")] = 10,
    concurrency: Annotated[int, Option(min=1, max=64, help="Requests at the same time.")] = 4,
    attempts: Annotated[int, Option(min=1, max=20, help="Answers to ask for until a class is complete.")] = 3,
    retries: Annotated[int, Option(min=0, max=20, help="Of a request that fails for the moment.")] = 5,
    timeout: Annotated[float, Option(min=0.1, help="Seconds to wait for one answer.")] = 180,
    temperature: Annotated[float | None, Option(min=0, max=2, help="The server's own if not given.")] = None,
    stream: Annotated[bool, Option("--stream/--no-stream", help="Receive answers piece by piece.")] = True,
    force: Annotated[bool, Option("--force", help="Begin the bank anew, whatever is in it.")] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    max_tokens: Annotated[
        int | None, Option(min=1, help="Of an answer with its thoughts; the server's own if not given.")
    ] = None,
    backoff: Annotated[float, Option(min=0, hidden=True, help="Of before: the client library chooses its waits.")] = 1,
) -> None:
    """Ask a language model for every class's phrases, and write a bank.

    Any server with the OpenAI chat protocol; the key comes from the environment. Each class is saved when it arrives:
    interrupted, the same command goes on. Exit code 2 if a class could not be completed; it is named.

      concord concepts retrieve classes.txt --model gpt-4o
      concord concepts retrieve my-photos --base-url http://localhost:11434/v1 --model llama3.1 --out bank.json
    """
    where = out or Path(f"{Path(source).resolve().stem}.json")
    with user_errors(where):
        from concord.cli.retrieve_views import find_server, run
        from concord.concepts.llm.client import Server
        from concord.concepts.llm.prompts import prompt_named

        address, wanted, key = find_server(base_url, model, key_env)
        server = Server(address, wanted, key, temperature, stream, timeout, retries, max_tokens)
        asked = prompt_named(prompt)
        patience = {"attempts": attempts, "concurrency": concurrency}
        run(source, where, asked, server, about, phrases, force, quiet, **patience)
