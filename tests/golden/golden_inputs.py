"""What the golden commands read: the toy collection, tiny models, and a few made files, in one folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import tiny_models
import torch
from fake_api import PRICES, document
from tiny_models import sentence
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

DATA = Path(__file__).parents[1] / "data"
EXACT_INPUTS = {
    "toy",
    "files",
    "form.txt",
    "examples.jsonl",
    "numbered.jsonl",
    "many.jsonl",
    "judged.tsv",
    "prices.yaml",
    "squad.json",
}
STOPS_OFTEN = 2.2  # the end's logits vary so many times as much as a word's


def make_inputs(folder: Path) -> None:
    """Fill a folder with the toy collection, tiny models and what else the commands read."""
    shutil.copytree(DATA / "toy", folder / "toy")
    for name in ("llama", "gpt_neox", "t5"):
        getattr(tiny_models, name)(folder / "models" / name)
    tiny_models.bert_classifier(folder / "models" / "classifier")
    tiny_models.bert_reader(folder / "models" / "reader")
    tiny_models.sentence_transformer(folder / "models" / "encoder")
    _words_model(folder / "models" / "words")
    (folder / "form.txt").write_text("Document: {document}\nQuery: {query}\n", encoding="utf-8")
    examples = [{"document": sentence(number, 12), "query": sentence(number, 3)} for number in range(3)]
    _lines(folder / "examples.jsonl", examples)
    numbered = [document(number) for number in range(7)]
    _lines(folder / "numbered.jsonl", [{"_id": d.doc_id, "title": "", "text": d.full_text} for d in numbered])
    _lines(folder / "many.jsonl", _three_of_each(folder / "toy" / "corpus.tsv"))
    splits = [(folder / "toy" / "beir" / "qrels" / f"{split}.tsv").read_text() for split in ("dev", "test")]
    (folder / "judged.tsv").write_text(splits[0] + splits[1].partition("\n")[2])
    (folder / "prices.yaml").write_text(PRICES, encoding="utf-8")
    _files(folder / "files")
    (folder / "squad.json").write_text(json.dumps({"version": "v2.0", "data": _articles()}), encoding="utf-8")


def _words_model(folder: Path) -> None:
    """A Llama whose tokens are the words of the toy collection, so that BM25 finds what it writes; it stops often."""
    texts = (DATA / "toy" / "corpus.tsv").read_text(encoding="utf-8").split()
    pieces = [f" {word}" for word in sorted({word.strip(".,;:()").lower() for word in texts})]
    vocabulary = {piece: number for number, piece in enumerate(["<unk>", "<s>", "</s>", *pieces])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" \p{L}+"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"vocab_size": len(vocabulary), "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(1)
    network = LlamaForCausalLM(LlamaConfig(**sizes, **ids, max_position_embeddings=512, initializer_range=0.3))
    network.lm_head.weight.data[2] *= STOPS_OFTEN
    network.save_pretrained(folder)
    fast.save_pretrained(folder)


def _three_of_each(corpus: Path) -> list[dict[str, object]]:
    """More documents than one chunk of work has, each of them with a part of a text."""
    made: list[dict[str, object]] = []
    for line in corpus.read_text(encoding="utf-8").splitlines():
        doc_id, text, *_ = line.split("\t")
        words = text.split()
        made += [{"_id": f"{doc_id}-{n}", "title": "", "text": " ".join(words[n * 3 :])} for n in range(3)]
    return made


def _files(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.md").write_text(f"# Bread\n\n{sentence(1, 30)}\n\n## Flour\n\n{sentence(2, 60)} {sentence(3, 9)}\n")
    (folder / "b.txt").write_text(f"{sentence(4, 20)}\n\n{sentence(5, 50)}\n")
    (folder / "c.rst").write_text(f"Tides\n=====\n\n{sentence(6, 25)}\n")
    (folder / "d.csv").write_text(f"id,title,text\nx,One,{sentence(7, 10)}\ny,Two,{sentence(8, 10)}\n")
    _lines(folder / "e.jsonl", [{"id": "z", "text": sentence(9, 15)}, {"id": "again", "text": sentence(9, 15)}])


def _articles() -> list[dict[str, object]]:
    made = []
    for number in range(5):
        text = sentence(number, 9)
        start = text.index(" ") + 1
        answer = {"text": text[start:].split()[0], "answer_start": start}
        asked = [
            {"id": f"{number}a", "question": text.split()[0], "is_impossible": False, "answers": [answer]},
            {"id": f"{number}b", "question": sentence(number + 50, 2), "is_impossible": True, "answers": []},
        ]
        made.append({"title": f"article {number}", "paragraphs": [{"context": text, "qas": asked}]})
    return made


def _lines(path: Path, records: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
