#!/usr/bin/env python3
"""Make small valid models with random weights, the same bytes for the same arguments.

    python models.py gguf  --size 8M  FILE.gguf
    python models.py gguf  --size 24M --splits 3 FILE.gguf     # FILE-00001-of-00003.gguf ...
    python models.py hf    --size 16M --shards 3 DIR           # Hugging Face directory

Needs `gguf` and `numpy`. Engines load them and generate text that is nonsense, but the same for
the same weights. Weights do not repeat, so a read at a wrong offset changes the result.
"""
import argparse
import dataclasses
import json
import pathlib

import numpy as np

UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
# From this size on: width, feed-forward width, heads, key-value heads.
SHAPES = [
    (0, 64, 128, 4, 2),
    (4 * 2**20, 256, 704, 4, 2),
    (64 * 2**20, 512, 1408, 8, 4),
    (256 * 2**20, 1024, 2816, 16, 4),
    (2**30, 2048, 5632, 32, 4),
]
# GGUF's name of a part, Hugging Face's, and its rows and columns (w width, k key-value width,
# f feed-forward width); no columns: a norm.
LAYER = [
    ("attn_norm", "input_layernorm", "w", ""),
    ("attn_q", "self_attn.q_proj", "w", "w"),
    ("attn_k", "self_attn.k_proj", "k", "w"),
    ("attn_v", "self_attn.v_proj", "k", "w"),
    ("attn_output", "self_attn.o_proj", "w", "w"),
    ("ffn_norm", "post_attention_layernorm", "w", ""),
    ("ffn_gate", "mlp.gate_proj", "f", "w"),
    ("ffn_up", "mlp.up_proj", "f", "w"),
    ("ffn_down", "mlp.down_proj", "w", "f"),
]


def parse_size(text):
    unit = UNITS.get(text[-1:].upper())
    return int(float(text[:-1]) * unit) if unit else int(text)


@dataclasses.dataclass
class Shape:
    width: int
    forward: int
    heads: int
    kv_heads: int
    layers: int
    vocabulary: int

    @property
    def kv_width(self):
        return self.width // self.heads * self.kv_heads

    def tensors(self, name):
        """(name, rows, columns) of all tensors; columns 0 for a norm."""
        sizes = {"w": self.width, "k": self.kv_width, "f": self.forward, "": 0}
        yield name("embedding", None), self.vocabulary, self.width
        for layer in range(self.layers):
            for *parts, rows, columns in LAYER:
                yield name(parts, layer), sizes[rows], sizes[columns]
        yield name("norm", None), self.width, 0
        yield name("output", None), self.vocabulary, self.width


def shape_of(size, vocabulary):
    width, forward, heads, kv_heads = [s[1:] for s in SHAPES if size >= s[0]][-1]
    shape = Shape(width, forward, heads, kv_heads, 1, vocabulary)
    left = size - 4 * vocabulary * width
    layer = 4 * width * (width + shape.kv_width) + 6 * width * forward
    shape.layers = max(1, round(left / layer))
    spare = left / shape.layers - 4 * width * (width + shape.kv_width)
    shape.forward = max(64, round(spare / (6 * width) / 32) * 32)
    return shape


def random_f16(rng, rows, columns):
    """Magnitude 0.0078 to 0.0156: random sign and mantissa, no NaN, no infinity."""
    bits = np.frombuffer(rng.bytes(rows * columns * 2), np.uint16)
    return ((bits & 0x83FF) | 0x2000).view(np.float16).reshape(rows, columns)


def share_out(tensors, files, size_of):
    """The tensors, split into runs of about equal bytes."""
    total, done, shares = sum(map(size_of, tensors)), 0, [[]]
    for position, tensor in enumerate(tensors):
        left = files - len(shares)
        full = done >= total * len(shares) / files or len(tensors) - position <= left
        if left and shares[-1] and full:
            shares.append([])
        shares[-1].append(tensor)
        done += size_of(tensor)
    return shares


# --- GGUF -----------------------------------------------------------------------------------------


def gguf_name(part, layer):
    names = {"embedding": "token_embd", "norm": "output_norm", "output": "output"}
    return f"{names[part]}.weight" if layer is None else f"blk.{layer}.{part[0]}.weight"


def gguf_vocabulary(kinds):
    """The smallest vocabulary that llama.cpp takes: control, bytes, printable ASCII."""
    tokens = [(b"<unk>", kinds.UNKNOWN), (b"<s>", kinds.CONTROL), (b"</s>", kinds.CONTROL)]
    tokens += [(b"<0x%02X>" % byte, kinds.BYTE) for byte in range(256)]
    tokens += [("\u2581".encode(), kinds.NORMAL)]
    tokens += [(bytes([byte]), kinds.NORMAL) for byte in range(0x21, 0x7F)]
    while len(tokens) % 32:
        tokens.append((b"[pad%d]" % len(tokens), kinds.UNUSED))
    return tokens


def make_gguf(path, size, splits=1, seed=1):
    """Write one file, or a set of splits named after it; answer the paths."""
    import gguf

    tokens = gguf_vocabulary(gguf.TokenType)
    printable = np.array([kind == gguf.TokenType.NORMAL for _, kind in tokens])
    shape = shape_of(size, len(tokens))
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(f"random-{size}")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(2)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(512)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.forward)
    writer.add_block_count(shape.layers)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([token for token, _ in tokens])
    writer.add_token_scores([-float(i) if ok else 0.0 for i, ok in enumerate(printable)])
    writer.add_token_types([int(kind) for _, kind in tokens])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)
    shares = share_out(
        list(shape.tensors(gguf_name)), splits, lambda t: t[1] * (t[2] * 2 if t[2] else 4))
    for number, share in enumerate(shares):
        if number:
            writer.tensors.append({})
        for name, rows, columns in share:
            dims, kind = ((rows, columns), np.float16) if columns else ((rows,), np.float32)
            size_bytes = int(np.prod(dims)) * np.dtype(kind).itemsize
            writer.add_tensor_info(name, dims, np.dtype(kind), size_bytes)
    written = writer.format_shard_names(pathlib.Path(path))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.Generator(np.random.PCG64(seed))
    for name, rows, columns in (tensor for share in shares for tensor in share):
        if not columns:
            writer.write_tensor_data(np.ones(rows, np.float32))
            continue
        weights = random_f16(rng, rows, columns)
        if name == "output.weight":
            weights[~printable] = 0  # what is generated is printable
        writer.write_tensor_data(weights)
    writer.close()
    return written


# --- Hugging Face ---------------------------------------------------------------------------------


def hf_name(part, layer):
    names = {"embedding": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"}
    return f"{names[part]}.weight" if layer is None else f"model.layers.{layer}.{part[1]}.weight"


def hf_tokenizer():
    """A token for each byte, no merges; bytes that are not printable borrow a character as GPT-2's do."""
    keep = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    borrowed = iter(range(256, 512))
    characters = [chr(byte if byte in keep else next(borrowed)) for byte in range(256)]
    special = ["<unk>", "<s>", "</s>"]
    vocabulary = {token: number for number, token in enumerate(special + characters)}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    added = [{"id": i, "content": t, **plain, "special": True} for i, t in enumerate(special)]
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
             "ignore_merges": False, "vocab": vocabulary, "merges": []}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": None, "pre_tokenizer": level, "post_processor": None, "decoder": level,
            "model": model}, len(vocabulary)


def write_shard(path, tensors, rng):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, rows, columns in tensors:
        end = offset + rows * max(columns, 1) * 2
        shape = [rows, columns] if columns else [rows]
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, rows, columns in tensors:
            ones = np.ones(rows, np.float16)
            file.write((random_f16(rng, rows, columns) if columns else ones).tobytes())
    return offset


def make_hf(directory, size, shards=3, seed=1):
    """Write a directory of f16 shards; answer the paths of the shards."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer, count = hf_tokenizer()
    shape = shape_of(size, -(-count // 32) * 32)
    shares = share_out(list(shape.tensors(hf_name)), shards, lambda t: t[1] * max(t[2], 1) * 2)
    rng, weight_map, total, written = np.random.Generator(np.random.PCG64(seed)), {}, 0, []
    for number, share in enumerate(shares, 1):
        name = f"model-{number:05}-of-{len(shares):05}.safetensors"
        written.append(directory / name)
        total += write_shard(written[-1], share, rng)
        weight_map |= {tensor: name for tensor, _, _ in share}
    documents = {
        "model.safetensors.index.json": {"metadata": {"total_size": total}, "weight_map": weight_map},
        "config.json": {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama",
            "vocab_size": shape.vocabulary, "hidden_size": shape.width,
            "intermediate_size": shape.forward, "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.width // shape.heads, "hidden_act": "silu",
            "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False,
            "bos_token_id": 1, "eos_token_id": 2, "use_cache": True, "torch_dtype": "float16"},
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2, "do_sample": False},
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
            "unk_token": "<unk>", "model_max_length": 512, "clean_up_tokenization_spaces": False},
    }
    for name, document in documents.items():
        (directory / name).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return written


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("format", choices=["gguf", "hf"])
    ap.add_argument("out", type=pathlib.Path)
    ap.add_argument("--size", type=parse_size, default="8M")
    ap.add_argument("--splits", "--shards", type=int, default=1, dest="files")
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    make = make_gguf if args.format == "gguf" else make_hf
    for path in make(args.out, args.size, args.files, args.seed):
        print(path)


if __name__ == "__main__":
    main()
