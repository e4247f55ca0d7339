"""A tiny random Qwen3 in the directory layout of Qwen3-Embedding-0.6B, and small made data that a model can learn."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import Qwen3Config, Qwen3Model

END = "<|endoftext|>"
SPECIAL = (END, "<|im_start|>", "<|im_end|>")
QUERY_PROMPT = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
VOCABULARY, HIDDEN, LAYERS, HEADS, HEAD_DIM, INTERMEDIATE, POSITIONS = 2048, 64, 2, 2, 64, 128, 512

SENTENCES = (
    QUERY_PROMPT,
    "Which documents does the policy cover, and how is a claim paid after an accident on the road?",
    "Patients with high blood pressure were treated for twelve weeks; the medicine lowered it in most of them.",
    "List all files in a directory, sort them by size and count the lines of each.",
    "The library holds books about the history of rivers, ships, winter storms and old trade routes.",
    "def read_lines(path): return [line.strip() for line in open(path, encoding='utf-8') if line]",
    "A train leaves the station at 7:45 and arrives in 3 hours; the ticket costs 19.90 in second class.",
    "保险合同成立后，投保人按照约定交付保险费，保险人按照约定的时间开始承担保险责任。",
    "劳动者在试用期内提前三日通知用人单位，可以解除劳动合同。",
    "请问如何查看当前目录下所有文件的大小，并且按照时间排序？",
    "人民法院审理案件，应当公开进行，但是法律另有规定的除外。",
)
# Qwen's own split of text into words.
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def tiny_qwen3(directory: Path, *, dtype: Literal["float32", "bfloat16"] = "float32", seed: int = 0) -> Path:
    """Write the model into `directory` (made if missing) and return it."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    tokenizer.save(str(directory / "tokenizer.json"))
    tokenizer.model.save(str(directory))  # vocab.json and merges.txt, as the real directory has them
    end = tokenizer.token_to_id(END)

    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=1,
        head_dim=HEAD_DIM,
        initializer_range=0.15,  # large enough that the last token's state depends on the text before it
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = Qwen3Model(config).state_dict()
    save_file(
        {name: tensor.to(getattr(torch, dtype)).contiguous() for name, tensor in weights.items()},
        directory / "model.safetensors",
        metadata={"format": "pt"},
    )
    _write(
        directory / "config.json",
        {
            "architectures": ["Qwen3ForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": end,
            "eos_token_id": end,
            "head_dim": HEAD_DIM,
            "hidden_act": "silu",
            "hidden_size": HIDDEN,
            "initializer_range": 0.02,
            "intermediate_size": INTERMEDIATE,
            "max_position_embeddings": POSITIONS,
            "max_window_layers": LAYERS,
            "model_type": "qwen3",
            "num_attention_heads": HEADS,
            "num_hidden_layers": LAYERS,
            "num_key_value_heads": 1,
            "rms_norm_eps": 1e-06,
            "rope_scaling": None,
            "rope_theta": 1000000,
            "sliding_window": None,
            "tie_word_embeddings": True,
            "torch_dtype": dtype,
            "transformers_version": "4.51.3",
            "use_cache": True,
            "use_sliding_window": False,
            "vocab_size": VOCABULARY,
        },
    )
    _write(
        directory / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "add_prefix_space": False,
            "added_tokens_decoder": {
                str(tokenizer.token_to_id(token)): {
                    "content": token,
                    "lstrip": False,
                    "normalized": False,
                    "rstrip": False,
                    "single_word": False,
                    "special": True,
                }
                for token in SPECIAL
            },
            "additional_special_tokens": list(SPECIAL[1:]),
            "bos_token": None,
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "errors": "replace",
            "model_max_length": 131072,
            "pad_token": END,
            "padding_side": "left",
            "split_special_tokens": False,
            "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": None,
        },
    )
    _write(
        directory / "modules.json",
        [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
    )
    _write(
        directory / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": HIDDEN,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": False,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
            "pooling_mode_weightedmean_tokens": False,
            "pooling_mode_lasttoken": True,
            "include_prompt": True,
        },
    )
    _write(
        directory / "config_sentence_transformers.json",
        {
            "prompts": {"query": QUERY_PROMPT, "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )
    return directory


def _tokenizer() -> Tokenizer:
    """A byte-level BPE as Qwen's, learnt from `SENTENCES` and the made data's words; it closes every text with the end-of-text token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL),
        min_frequency=1,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([*SENTENCES, *(f" {words}" for words in (*TOPICS.values(), " ".join(FILLERS.split())))], trainer)
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
            processors.TemplateProcessing(
                single=f"$A {END}",
                pair=f"$A {END} $B:1 {END}:1",
                special_tokens=[(END, tokenizer.token_to_id(END))],
            ),
        ]
    )
    return tokenizer


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# Eight words of the questions and eight of the answers, a topic: the first of the ones means the first of the others, and so on.
TOPICS = {
    "cooking": "butter flour oven recipe onion sauce bake dinner simmer dough spice skillet broth garlic whisk roast",
    "garden": "soil seed plant water flower bloom hedge lawn prune compost root shade petal shrub mulch sprout",
    "insurance": "policy claim premium accident cover insurer refund clause holder liability damage payout broker peril deductible rider",
    "medicine": "patient doctor fever dose clinic pain nurse cough blood heart therapy tablet surgery symptom vaccine pulse",
    "music": "melody chord violin singer concert piano song band rhythm tempo orchestra tenor drum octave flute encore",
    "railway": "train station ticket platform delay seat journey luggage carriage track signal engine conductor junction freight sleeper",
    "sailing": "harbour wind anchor sail boat sea coast storm deck hull captain tide rudder mast keel mooring",
    "shell": "file directory command script copy delete print search path pipe output terminal variable redirect daemon cursor",
}
FILLERS = """
    about after again always before between daily early every first long morning never often other quickly
    rather second simply sometimes today together tomorrow under usually weekly within without yearly young
"""


def made_records(queries: int = 48, candidates: int = 8, *, seed: int = 0, shuffled: bool = False) -> list[dict[str, Any]]:
    """Judged candidates in English: a query asks for three things, its two positives tell of them in other words.

    Half of the negatives tell of one of the three, the others of none. No query shares a word with a document but by the fillers, so
    that a model gains by learning which words mean the same. No two queries are nearly equal, no document is in two lists. `shuffled`
    deals the labels of each list at random: nothing is left to learn.
    """
    draw = random.Random(seed)
    words = [text.split() for text in TOPICS.values()]
    things = [(topic[place], topic[place + 8]) for topic in words for place in range(8)]
    fillers = FILLERS.split()
    records = []
    for number in range(queries):
        asked = draw.sample(things, 3)
        query = _jumbled(draw, [ask for ask, _ in asked], draw.sample(fillers, 3))
        labels = draw.sample([True] * 2 + [False] * (candidates - 2), candidates)
        documents = []
        for position, relevant in enumerate(labels):
            others = draw.sample([thing for thing in things if thing not in asked], 3)
            told = asked if relevant else [draw.choice(asked), *others[1:]] if position % 2 else others
            content = _jumbled(draw, [tell for _, tell in told], [*draw.sample(fillers, 2), f"{number}-{position}"])
            documents.append({"content": content, "is_relevant": relevant})
        if shuffled:
            draw.shuffle(labels)
            documents = [{**document, "is_relevant": label} for document, label in zip(documents, labels, strict=True)]
        half = len(documents) // 2
        records.append({"query": query, "content_private": documents[:half], "content_public": documents[half:]})
    return records


def _jumbled(draw: random.Random, *words: list[str]) -> str:
    together = [word for some in words for word in some]
    return " ".join(draw.sample(together, len(together)))


def made_data(directory: Path, queries: int = 48, candidates: int = 8, *, seed: int = 0, shuffled: bool = False) -> Path:
    """Write `made_records` as a JSON file of judged candidates and return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "made.json"
    _write(path, made_records(queries, candidates, seed=seed, shuffled=shuffled))
    return path
