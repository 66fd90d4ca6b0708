"""`inpars generate` with a fake generator, as a command that can be killed: corpus, output, log, seconds, address."""

import functools
import sys
from pathlib import Path

from fake_generators import MakeFake

from inpars.console import Console
from inpars.distributed import workers_of
from inpars.io.corpus import Corpus
from inpars.prompts.templates import Prompt
from inpars.stages import stage
from inpars.stages.generate import GenerateOptions, generate_queries

PROMPT = Prompt(name="test", form="Document: {document}\nRelevant Query: {query}", stop=("\n",))


def main(corpus, output, log, seconds, *address):
    documents = Corpus(Path(corpus))
    if address:
        options = GenerateOptions(model="fake", canary=False, engine="ray", workers=6, address=address[0])
        stage.remove_leftovers = lambda _: None  # the tests look at them
    else:
        options = GenerateOptions(model="fake", canary=False)
    make = functools.partial(MakeFake(Path(log), float(seconds)))
    generate_queries(
        *(documents, PROMPT, options),
        output=Path(output),
        make_generator=make,
        workers=workers_of(options),
        progress=Console(),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
