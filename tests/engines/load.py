#!/usr/bin/env python3
"""Load a model with real engines and print what came out, one line of JSON for each.

    python load.py LOADER[,LOADER...] PATH [--times]
    python load.py --available        # the loaders that this interpreter can import

    llama-mmap llama-none llama-dio llama-mlock   llama.cpp on a GGUF file (the first of a split set)
    mistralrs                                     mistral.rs on a Hugging Face directory
    safetensors                                   safetensors with numpy: a hash over all tensors
    torch transformers runai fastsafetensors      the same with torch; its hash is the same

All but `load_s` (only with --times) is the same for the same weights, so lines can be compared.
"""
import argparse
import glob
import hashlib
import importlib.util
import json
import os
import re
import time

PROMPT, TOKENS, THREADS = "Hello", 8, 2
NEEDS = {
    "llama-mmap": ["xllamacpp"], "llama-none": ["xllamacpp"], "llama-dio": ["xllamacpp"],
    "llama-mlock": ["xllamacpp"], "mistralrs": ["mistralrs"],
    "safetensors": ["safetensors", "numpy"], "torch": ["safetensors", "torch"],
    "transformers": ["transformers", "torch"], "runai": ["runai_model_streamer", "torch"],
    "fastsafetensors": ["fastsafetensors", "torch"],
}


def available():
    return [loader for loader, modules in NEEDS.items() if all(map(importlib.util.find_spec, modules))]


def digest(tensors):
    """SHA-256 over names and raw bytes of all tensors, whatever order they came in."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        whole.update(name.encode() + b"\0" + hashlib.sha256(tensors[name]).digest())
    return {"tensors": len(tensors), "sha256": whole.hexdigest()}


def raw(tensor):
    import torch
    kind = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return tensor.detach().contiguous().view(kind).numpy().tobytes()


def shards(path):
    found = sorted(glob.glob(os.path.join(glob.escape(path), "*.safetensors")))
    if not found:
        raise SystemExit(f"no safetensors file in {path}")
    return found


def llama(path, mode):
    import xllamacpp as xl
    modes = xl.llama_load_mode
    params = xl.CommonParams()
    params.model.path = path
    params.load_mode = {
        "mmap": modes.LLAMA_LOAD_MODE_MMAP, "none": modes.LLAMA_LOAD_MODE_NONE,
        "mlock": modes.LLAMA_LOAD_MODE_MLOCK, "dio": modes.LLAMA_LOAD_MODE_DIRECT_IO}[mode]
    params.n_ctx = 128
    params.n_parallel = 1
    params.warmup = False  # it would run the model while we time the load
    params.fit_params = False  # it would open the model once more
    params.cpuparams.n_threads = THREADS
    params.verbosity = -1
    params.port = 0
    server = xl.Server(params)  # returns when the model is loaded
    loaded = time.monotonic()
    answer = server.handle_completions({
        "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, "seed": 1, "ignore_eos": True,
        "logprobs": 1})
    answer = json.loads(answer) if isinstance(answer, (str, bytes)) else answer
    choice = answer["choices"][0]
    tokens = choice["logprobs"]["content"]
    return loaded, {
        "text": choice["text"], "tokens": [token.get("id", token["token"]) for token in tokens],
        "logprob_sum": round(sum(token["logprob"] for token in tokens), 5)}


def mistralrs(path):
    from mistralrs import Architecture, CompletionRequest, Runner, Which
    runner = Runner(which=Which.Plain(model_id=path, arch=Architecture.Llama))
    loaded = time.monotonic()
    answer = runner.send_completion_request(CompletionRequest(
        prompt=PROMPT, model="default", max_tokens=TOKENS, temperature=0.0))
    return loaded, {"text": answer.choices[0].text}


def safetensors(path, framework):
    from safetensors import safe_open
    tensors = {}
    for shard in shards(path):
        with safe_open(shard, framework=framework) as file:
            for name in file.keys():
                tensor = file.get_tensor(name)
                tensors[name] = tensor.tobytes() if framework == "np" else raw(tensor)
    return time.monotonic(), digest(tensors)


def transformers(path):
    import torch
    import transformers as tf
    model = tf.AutoModelForCausalLM.from_pretrained(
        path, torch_dtype="auto", local_files_only=True, low_cpu_mem_usage=False)
    loaded = time.monotonic()
    state = {name: raw(tensor) for name, tensor in model.state_dict().items()
             if not name.endswith("inv_freq")}
    tokenizer = tf.AutoTokenizer.from_pretrained(path, local_files_only=True)
    prompt = tokenizer(PROMPT, return_tensors="pt").input_ids
    with torch.no_grad():
        # No arithmetic in f16 on a CPU of this torch.
        whole = model.float().generate(
            prompt, max_new_tokens=TOKENS, do_sample=False, pad_token_id=0)
    return loaded, {"tokens": whole[0, prompt.shape[1]:].tolist(), **digest(state)}


def runai(path):
    from runai_model_streamer import SafetensorsStreamer
    with SafetensorsStreamer() as streamer:
        streamer.stream_files(shards(path))
        # Its buffer is used again, so each tensor is copied as it comes.
        tensors = {name: raw(tensor) for name, tensor in streamer.get_tensors()}
    return time.monotonic(), digest(tensors)


def fastsafetensors(path):
    from fastsafetensors import fastsafe_open
    with fastsafe_open(filenames=shards(path), nogds=True, device="cpu") as file:
        tensors = {name: raw(file.get_tensor(name)) for name in file.keys()}
    return time.monotonic(), digest(tensors)


def size_of(path):
    """Bytes of weights: a directory's shards, all splits of a set, or the file."""
    if os.path.isdir(path):
        return sum(map(os.path.getsize, shards(path)))
    pattern = re.sub(r"-\d{5}-of-(\d{5}\.gguf)$", r"-*-of-\1", glob.escape(path))
    return sum(map(os.path.getsize, glob.glob(pattern)))


def load(loader, path, times):
    start = time.monotonic()
    if loader.startswith("llama-"):
        loaded, result = llama(path, loader.removeprefix("llama-"))
    elif loader in ("safetensors", "torch"):
        loaded, result = safetensors(path, "np" if loader == "safetensors" else "pt")
    else:
        loaded, result = globals()[loader](path)
    result = {"loader": loader, "bytes": size_of(path), **result}
    if times:
        result["load_s"] = round(loaded - start, 3)
    # Engines write what they like to standard output; our lines begin so.
    print(json.dumps(result), flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("loaders", nargs="?", metavar="LOADERS")
    ap.add_argument("path", nargs="?")
    ap.add_argument("--available", action="store_true")
    ap.add_argument("--times", action="store_true")
    args = ap.parse_intermixed_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if args.available:
        print(json.dumps(available()))
        return
    if not args.path:
        ap.error("LOADER and PATH, or --available")
    for loader in args.loaders.split(","):
        if loader not in NEEDS:
            ap.error(f"no loader {loader}; there are {' '.join(NEEDS)}")
        load(loader, args.path, args.times)


if __name__ == "__main__":
    main()
