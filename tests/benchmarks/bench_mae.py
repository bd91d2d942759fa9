"""A masked autoencoder's training step beside transformers 5.23.0's ViTMAEForPreTraining, at equal shapes and equal loss.

    python tests/benchmarks/bench_mae.py [--threads 1] [--repeats 15] [--out FILE.json]
    python tests/benchmarks/bench_mae.py --device cuda        ViT-B/16, 224 x 224, batch 256, bf16 autocast

A step is forward, backward and a fused AdamW update, on one batch, with fresh masks.  Both hide 75 % of the patches, normalize
each patch's pixels and take the loss on hidden patches only; widths, depths, heads and patches are equal.  The peer runs twice:
"as it comes", with its class token (one token more in encoder and decoder), and "no class token", the same modules with the
token taken out, which computes what ours computes.  Before any time is taken our weights are copied into that one, and the
losses and all gradients are compared under the same masks.  Ours has one more linear map, between encoder and latent.  Runs
alternate in one process; figures are medians, the ratio is of medians.  The peer uses sdpa attention (its faster one).

Needs: pip install transformers==5.23.0
"""

import torch
from alternating import alternated, cast_on, main

import reprkit as rk

# size, channels, patch, (width, depth, heads) of encoder and decoder, batch
CASES = {
    "cpu": {
        "32 x 32 x 3, patch 2": (32, 3, 2, (192, 6, 3), (128, 2, 4), 32),
        "28 x 28 x 1, patch 4": (28, 1, 4, (64, 3, 4), (48, 1, 4), 256),
        "ViT-B/16, 224 x 224, batch 4": (224, 3, 16, (768, 12, 12), (512, 8, 16), 4),
    },
    "cuda": {"ViT-B/16, 224 x 224": (224, 3, 16, (768, 12, 12), (512, 8, 16), 256)},
}
RATIO = 0.75


def ours(case):
    size, channels, patch, encoder, decoder, _ = case
    field = rk.Field(kind="image", shape=(size, size, channels))
    written = "vit(patch={}, width={}, depth={}, heads={}{})"
    return rk.build(
        data=rk.Signature({"x": field}),
        encoder=written.format(patch, *encoder, ""),
        latent=f"continuous(dim={encoder[0]})",
        decoder=written.format(patch, *decoder, ", scale=1.0"),
        objective=f"masked(ratio={RATIO}, normalize=True)",
    )


def peer(case, *, token):
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    size, channels, patch, (width, depth, heads), (narrow, shallow, few), _ = case
    config = ViTMAEConfig(
        image_size=size, num_channels=channels, patch_size=patch, mask_ratio=RATIO, norm_pix_loss=True,
        hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=4 * width,
        decoder_hidden_size=narrow, decoder_num_hidden_layers=shallow, decoder_num_attention_heads=few,
        decoder_intermediate_size=4 * narrow, layer_norm_eps=1e-5, attn_implementation="sdpa",
    )  # fmt: skip
    model = ViTMAEForPreTraining(config)
    if not token:
        without_token(model)
    return model


def without_token(model):
    """The peer's own modules, less the class token."""
    embeddings, decoder = model.vit.embeddings, model.decoder

    def embed(pixel_values, noise=None, **_):
        x = embeddings.patch_embeddings(pixel_values) + embeddings.position_embeddings[:, 1:]
        return embeddings.random_masking(x, noise)

    def decode(x, ids_restore, **_):
        from transformers.models.vit_mae.modeling_vit_mae import ViTMAEDecoderOutput

        x = decoder.decoder_embed(x)
        missing = decoder.mask_token.repeat(len(x), ids_restore.shape[1] - x.shape[1], 1)
        x = torch.cat([x, missing], dim=1)
        x = torch.gather(x, dim=1, index=ids_restore.unsqueeze(-1).repeat(1, 1, x.shape[2]))
        x = x + decoder.decoder_pos_embed[:, 1:]
        for layer in decoder.decoder_layers:
            x = layer(x)
        return ViTMAEDecoderOutput(logits=decoder.decoder_pred(decoder.decoder_norm(x)))

    embeddings.forward, decoder.forward = embed, decode
    embeddings.cls_token.requires_grad_(False)


def pairs(mine, theirs, case):
    """(our weight, its weight, how ours is turned into its shape) for everything that is trained but our extra map."""
    _, channels, patch, (width, *_), _, _ = case
    path, decoder = mine.factors["code"], mine.decoder
    patches = theirs.vit.embeddings.patch_embeddings.projection

    def as_conv(w):
        return w.view(width, patch, patch, channels).permute(0, 3, 1, 2)

    def same(w):
        return w

    found = [
        (path.encoder.embed.weight, patches.weight, as_conv),
        (path.encoder.embed.bias, patches.bias, same),
    ]
    for blocks, layers, norm in (
        (path.encoder.blocks, theirs.vit.layers, theirs.vit.layernorm),
        (decoder.blocks, theirs.decoder.decoder_layers, theirs.decoder.decoder_norm),
    ):
        found += [(blocks.norm.weight, norm.weight, same), (blocks.norm.bias, norm.bias, same)]
        for block, layer in zip(blocks.blocks, layers, strict=True):
            attention = layer.attention
            for name in ("weight", "bias"):
                fused = getattr(block.attention.qkv, name)
                for place, each in enumerate((attention.q_proj, attention.k_proj, attention.v_proj)):
                    found.append((fused, getattr(each, name), lambda w, place=place: w.chunk(3)[place]))
                for one, two in (
                    (block.attention.out, attention.o_proj),
                    (block.norm, layer.layernorm_before),
                    (block.feed[0], layer.layernorm_after),
                    (block.feed[1], layer.mlp.fc1),
                    (block.feed[3], layer.mlp.fc2),
                ):
                    found.append((getattr(one, name), getattr(two, name), same))
    for one, two in (
        (mine.adapters["code"], theirs.decoder.decoder_embed),
        (decoder.head.linear, theirs.decoder.decoder_pred),
    ):
        found += [(one.weight, two.weight, same), (one.bias, two.bias, same)]
    found.append((decoder.code.absent, theirs.decoder.mask_token, lambda w: w.view(1, 1, -1)))
    return found


@torch.no_grad()
def copy(mine, theirs, case):
    for one, two, turned in pairs(mine, theirs, case):
        two.copy_(turned(one))
    theirs.vit.embeddings.position_embeddings[0, 1:] = mine.factors["code"].encoder.places
    theirs.decoder.decoder_pos_embed[0, 1:] = mine.decoder.places


def same(mine, theirs, case, batch):
    """Losses and gradients under the same masks: our nats an example are its mean square, but for a factor and a constant."""
    copy(mine, theirs, case)
    totals = []
    for model in (mine, theirs):
        torch.manual_seed(7)
        totals.append(loss(model, batch))
        totals[-1].backward()
    totals = [each.detach() for each in totals]
    patches = (case[0] // case[2]) ** 2
    elements = (patches - int(patches * (1 - RATIO))) * case[2] ** 2 * case[1]
    as_theirs = (totals[0].double() / elements - 0.5 * torch.log(torch.tensor(2 * torch.pi))) * 2
    gap = abs(float(as_theirs / totals[1].double()) - 1)
    compared = [
        (turned(one.grad) * (2 / elements), two.grad) for one, two, turned in pairs(mine, theirs, case)
    ]
    # Keys' biases have no gradient but rounding: softmax does not see them.
    floor = 1e-3 * max(float(other.abs().max()) for _, other in compared)
    apart = max(float((a - b).abs().max()) / max(float(b.abs().max()), floor) for a, b in compared)
    assert gap < 1e-4, f"losses differ: {float(as_theirs)} and {float(totals[1])}"
    assert apart < 2e-3, f"gradients differ by {apart:.1e} of their largest entry"
    return gap, apart


def loss(model, batch):
    return (
        model({"x": batch}).total
        if isinstance(model, rk.Model)
        else model(pixel_values=batch.permute(0, 3, 1, 2)).loss
    )


def step(model, optimiser, batch, device):
    with cast_on(device):
        total = loss(model, batch)
    total.backward()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    if isinstance(model, rk.Model):
        model.update()


def run(name, case, device, repeats, steps):
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(case[-1], case[0], case[0], case[1], generator=generator)
    torch.manual_seed(0)
    checked = same(ours(case).train(), peer(case, token=False).train(), case, batch[: min(16, case[-1])])
    models = {
        "as it comes": peer(case, token=True),
        "no class token": peer(case, token=False),
        "reprkit": ours(case),
    }
    batch = batch.to(device).permute(0, 3, 1, 2).contiguous()
    views = {
        "reprkit": batch.permute(0, 2, 3, 1).contiguous()
    }  # each in the layout it is fed in: channels last, first
    fed = {way: views.get(way, batch.permute(0, 2, 3, 1)) for way in models}
    optimisers = {}
    for way, model in models.items():
        model.to(device).train()
        held = [each for each in model.parameters() if each.requires_grad]
        optimisers[way] = torch.optim.AdamW(held, lr=1e-4, weight_decay=0.05, fused=True)

    found = alternated(
        models, lambda way, model: step(model, optimisers[way], fed[way], device), device, repeats, steps
    )
    mine = found["reprkit"]["ms"]
    print(
        f"\n{name}, batch {case[-1]}: losses within {checked[0]:.1e}, gradients within {checked[1]:.1e} of their largest"
    )
    for way, each in found.items():
        print(f"  {way:16}{each['ms']:9.1f} ms {each['ms'] / mine:6.2f} ×   (wall {each['wall_ms']:.1f} ms)")
    return {"case": name, "shape": case, "loss_gap": checked[0], "gradient_gap": checked[1], "times": found}


if __name__ == "__main__":
    main(__doc__, CASES, run, "runs/bench/mae.json")
