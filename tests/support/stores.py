"""Products, results and contents of run folders in buckets."""

from __future__ import annotations

from cpp.files import filesystem
from cpp.store.local import Store
from cpp.store.results import Product

CODES, SIDE, PLOTS = Product("codes", ".txt"), Product("side", ".txt"), Product("plots", "")


def make(store: Store, product: Product, shard: str, key: str, text: str) -> str:
    target = store.path(product, shard, key)
    with store.commit({product.name: target}) as out:
        out[product.name].write_text(text)
    return target


def contents(store: Store, folder: str = "") -> dict[str, str]:
    """What lies in the bucket below a folder."""
    fs, start = filesystem.connect(store.address)
    names = fs.find(f"{start}/{folder}".rstrip("/"))
    return {name[len(start) + 1 :]: fs.cat_file(name).decode() for name in names}
