"""SAEs that other libraries train with their own trainers, a script a library, for trying `sae check`.

Each script reads activations that `sae cache` wrote, so that all of them see the same text, hook and context length:

    sae cache --out CACHE --dtype float32 --data LanguageModelDataModule --data.model MODEL \
        --data.hook model.layers.14 --data.dtype float32 --data.text FileText --data.text.paths TRAIN.jsonl.xz \
        --data.text.heldout HELDOUT.jsonl.xz --data.context_length 128 --data.train_samples 409600

The cache leaves out special tokens and activations whose norm is above 10 times the median, so no trainer sees them.
"""
