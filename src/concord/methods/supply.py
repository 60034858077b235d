"""In what order real images are dealt out: to condition samples, to begin from, to stand beside made ones."""

from collections.abc import Callable
from functools import partial

from concord.choices import Supply
from concord.data import ImageSet
from concord.methods.choice import by_clusters, medoids
from concord.methods.coreset import Greedy, Space, SupplyPool, feature_space, herding
from concord.methods.real import ImagePool, shuffled
from concord.plan import sample_seed
from concord.recipe import Recipe

MOST = 200
"""Images of a class that are put into an order; samples beyond them take these again."""


def supply_pool(recipe: Recipe, data: ImageSet, supply: Supply) -> ImagePool:
    """The real images of each class in this order; their features, where it goes by them, are worked out at need."""
    skip = recipe.unreadable == "skip"
    if supply == "random":
        return ImagePool(data, shuffled(recipe.seed), skip)
    clusters = partial(by_clusters, count=recipe.pipeline.prototypes, seed=sample_seed(recipe.seed, "", "supply"))
    orders: dict[str, Greedy] = {"herding": herding, "medoid": medoids, "kmeans": clusters}
    return SupplyPool(data, orders[supply], opened_once(recipe, data), MOST, skip)


def opened_once(recipe: Recipe, data: ImageSet) -> Callable[[], Space]:
    """Opens the recipe's feature space at first need, and the same from then on."""
    found: list[Space] = []

    def space() -> Space:
        if not found:
            found.append(feature_space(recipe, data.classes))
        return found[0]

    return space
