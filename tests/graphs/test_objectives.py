from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import prelu
from torch_geometric.nn import GATConv, GCNConv, GINConv

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.objectives.objective import Step, check_needs
from anyview.views.draws import Draws
from anyview.views.mask import MaskRows, MaskTokens
from anyview.views.view import View, ViewSet
from anyview_graphs.datasets import GraphSource
from anyview_graphs.encoders import GraphAttention, GraphConvolution, GraphEncoder, GraphIsomorphism
from anyview_graphs.graph import Graph
from anyview_graphs.objectives import MaskedFeatures, factored_scaled_cosine_error, factoring_pays, scaled_cosine_error
from anyview_graphs.sparse import sparse_if_worthwhile
from anyview_graphs.views import MaskNodes

from . import plain
from .conftest import random_graph

DECODERS = ["gat", "gcn", "gin", "mlp", "linear"]


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.0])
def test_error_of_equal_orthogonal_and_opposite_rows(alpha: float) -> None:
    x = torch.eye(6, dtype=torch.float64)
    assert scaled_cosine_error(x, x, alpha) == 0
    assert scaled_cosine_error(x.roll(1, 0), x, alpha) == 1
    assert scaled_cosine_error(-x, x, alpha) == 2**alpha


def test_error_ignores_lengths_and_is_one_minus_cosine_for_alpha_one() -> None:
    a, b = torch.randn(7, 5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    scale = torch.rand(7, 1, dtype=torch.float64) + 0.1
    torch.testing.assert_close(scaled_cosine_error(a * scale, b / scale, 3.0), scaled_cosine_error(a, b, 3.0))
    torch.testing.assert_close(scaled_cosine_error(a, b, 1.0), 1 - nn.functional.cosine_similarity(a, b).mean())


def test_a_row_of_zeros_contributes_one() -> None:
    target = torch.eye(2).index_fill(0, torch.tensor([1]), 0.0)
    assert scaled_cosine_error(torch.eye(2), target, 3.0) == 0.5


@pytest.mark.parametrize("density", [0.06, 0.9])
@pytest.mark.parametrize("alpha", [1.0, 1.5, 3.0])
def test_factored_error_is_the_plain_one(density: float, alpha: float) -> None:
    target = random_graph(11, 40, density=density).x.to_dense()
    codes, weight, bias = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((11, 4), (40, 4), (40,)))
    ours = factored_scaled_cosine_error(codes, weight, bias, sparse_if_worthwhile(target), alpha)
    wanted = plain.scaled_cosine_error(codes @ weight.t() + bias, target, alpha)
    plain.assert_same_gradients(ours, wanted, {"codes": codes, "weight": weight, "bias": bias})


def test_factored_error_passes_gradcheck() -> None:
    target = sparse_if_worthwhile(random_graph(5, 20).x.to_dense())
    inputs = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((5, 3), (20, 3), (20,))]
    assert torch.autograd.gradcheck(lambda *tensors: factored_scaled_cosine_error(*tensors, target, 2.0), inputs)


def test_factored_error_of_a_prediction_of_zeros_has_the_plain_gradient() -> None:
    codes, weight, bias = torch.zeros(2, 3).double(), torch.randn(4, 3).double(), torch.zeros(4).double()
    parameters = {name: value.requires_grad_() for name, value in {"codes": codes, "weight": weight, "bias": bias}.items()}
    target = torch.rand(2, 4, dtype=torch.float64)
    ours, wanted = (
        factored_scaled_cosine_error(codes, weight, bias, target, 2.0),
        scaled_cosine_error(codes @ weight.t() + bias, target, 2.0),
    )
    assert ours == wanted == 1
    for a, b in zip(*(torch.autograd.grad(loss, list(parameters.values())) for loss in (ours, wanted)), strict=True):
        torch.testing.assert_close(a, b)


def test_factoring_is_taken_where_it_is_cheaper() -> None:
    assert factoring_pays(1354, 512, 1433, 25_000)
    assert not factoring_pays(1354, 512, 128, 1354 * 128)
    assert not factoring_pays(10, 512, 1433, 180)


def model(graph: Graph, **options: object) -> tuple[GraphAttention, MaskedFeatures]:
    torch.manual_seed(0)
    rates = {"input_dropout": 0.3, "attention_dropout": 0.2}
    encoder = GraphAttention(graph.num_features, hidden=4, heads=2, **rates).double()
    objective = prepared(MaskedFeatures(4, **rates, **options).double(), graph.num_features)
    for parameter in (*encoder.parameters(), *objective.parameters()):
        if parameter.dim() < 2 or parameter is encoder.token:
            nn.init.normal_(parameter, std=0.3)
    return encoder, objective


def prepared(objective: MaskedFeatures, features: int) -> MaskedFeatures:
    """The objective, with the decoder that a graph of so many features calls for."""
    graph = Graph.from_edges(torch.tensor([[0], [1]]), torch.zeros(2, features))
    objective.prepare(ViewSet([View(graph, role="clean")]), samples=2)
    return objective


def step_of(graph: Graph, encoder: GraphAttention, maker: MaskNodes, seed: int = 0) -> Step:
    batch, draws = Batch(graph, rows=graph.num_nodes), Draws.seeded(seed, total=graph.num_nodes)
    return Step(maker(batch, draws), batch, draws, 0, 1, encoder)


@pytest.mark.parametrize("loss", ["sce", "mse"])
def test_the_whole_method_is_its_plain_form_under_the_same_dropout(loss: str, masks: list[Tensor]) -> None:
    graph = random_graph(40, 60, density=0.05)
    encoder, objective = model(graph, loss=loss)
    step = step_of(graph, encoder, MaskNodes(0.5, replace_rate=0.2, drop_edge=0.3))
    view = step.views[0]
    assert view.data.x.is_sparse_csr
    ours = objective(step).total
    names = dict(encoder.named_parameters()) | {f"objective.{name}": value for name, value in objective.named_parameters()}
    (clean,) = step.set.role("clean")
    plain.assert_same_gradients(ours, plain_graphmae(view, clean.data, encoder, objective, masks), names)


def plain_graphmae(view: View, target: Graph, encoder: GraphAttention, objective: MaskedFeatures, masks: list[Tensor]) -> Tensor:
    """Section by section as the paper has it: everything dense, the decoder maps every node to F and aggregates then."""
    of_values, of_tokens, of_edges, of_rows, of_edges_again, of_seen, of_decoder = masks
    graph, hidden = view.data, view.mask.hidden
    tokens = view.mask.replaced.nonzero().flatten()
    x = plain.shown(graph).index_copy(0, tokens, encoder.token.expand(len(tokens), -1))
    x = x * plain.input_factors(plain.shown(graph), tokens, of_values, of_tokens)
    for layer, factors in zip(encoder.layers, (of_edges, of_edges_again), strict=True):
        z = (x @ layer.weight).view(len(x), 2, -1)
        messages = plain.attention(z, layer.source[0], layer.target[0], graph.edges, plain.edge_factors(graph.edges, 2, factors))
        x = prelu(messages + layer.bias, layer.activation.weight)
        x = x * of_rows if layer is encoder.layers[0] else x
    z = (x @ objective.map.weight.t()).masked_fill(hidden[:, None], 0.0)
    z = z.index_copy(0, (~hidden).nonzero().flatten(), z[~hidden] * of_seen)
    decoder, into_hidden = objective.decoder, target.edges.filtered(hidden[target.edges.dst])
    factors = torch.ones(1, len(x), len(x), dtype=x.dtype)
    factors[0, into_hidden.dst, into_hidden.src] = of_decoder
    mapped = (z @ decoder.weight.t()).unsqueeze(1)
    predicted = plain.attention(mapped, decoder.source[0], decoder.target[0], target.edges, factors) + decoder.bias
    original = plain.shown(target)[hidden]
    if objective.loss == "mse":
        return (predicted[hidden] - original).square().mean()
    return plain.scaled_cosine_error(predicted[hidden], original, objective.alpha)


@pytest.mark.parametrize("kind", ["gat", "gcn", "gin"])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_graph_decoders_are_torch_geometrics_on_re_masked_rows(kind: str, norm: str, dense_graph: Graph) -> None:
    _, objective = model(dense_graph, decoder=kind, norm=norm)
    decoder, edges = objective.decoder.train().requires_grad_(True), dense_graph.edges
    decoder.input_dropout = decoder.attention_dropout = 0.0
    hidden = torch.tensor([0, 2, 3, 9])
    visible = torch.tensor([node for node in range(dense_graph.num_nodes) if node not in hidden])
    seen = torch.randn(len(visible), 4, dtype=torch.float64, requires_grad=True)
    rows = torch.zeros(dense_graph.num_nodes, 4, dtype=torch.float64).index_copy(0, visible, seen)
    wanted = theirs(kind, decoder)(rows, edges.index)[hidden]
    plain.assert_same_gradients(
        decoder(seen, visible, hidden, edges), wanted, {"seen": seen, "weight": decoder.weight, "bias": decoder.bias}
    )


def theirs(kind: str, decoder: nn.Module) -> nn.Module:
    """torch_geometric's layer with a decoder's parameters."""
    features, dim = decoder.weight.shape
    if kind == "gin":
        last = nn.Linear(dim, features)
        last.weight, last.bias = decoder.weight, decoder.bias
        return GINConv(nn.Sequential(decoder.first, decoder.inner, last), eps=0.0)
    layer = {"gat": GATConv, "gcn": GCNConv}[kind](dim, features, add_self_loops=False).double()
    layer.lin.weight, layer.bias = decoder.weight, decoder.bias
    if kind == "gat":
        layer.att_src, layer.att_dst = decoder.source, decoder.target
        return layer
    return lambda rows, index: layer(rows, index, torch.ones(index.shape[1], dtype=rows.dtype))


@pytest.mark.parametrize("kind", ["gat", "gcn", "gin"])
def test_what_the_encoder_says_about_hidden_nodes_never_matters(kind: str, dense_graph: Graph) -> None:
    _, objective = model(dense_graph, decoder=kind)
    rows = torch.randn(dense_graph.num_nodes, 4, dtype=torch.float64)
    hidden = torch.arange(dense_graph.num_nodes) % 3 == 0
    spoilt = rows.masked_fill(hidden[:, None], torch.nan).requires_grad_()
    loss = objective.eval().error(spoilt, hidden, dense_graph)
    assert loss == objective.error(rows, hidden, dense_graph)
    (gradient,) = torch.autograd.grad(loss, spoilt)
    assert not gradient[hidden].any()
    assert gradient[~hidden].any()


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_decoders_without_a_graph_read_the_hidden_nodes_own_rows(kind: str, dense_graph: Graph) -> None:
    _, objective = model(dense_graph, decoder=kind)
    rows = torch.randn(dense_graph.num_nodes, 4, dtype=torch.float64)
    hidden = torch.arange(dense_graph.num_nodes) % 3 == 0
    spoilt = rows.masked_fill(~hidden[:, None], torch.nan)
    assert objective.eval().error(spoilt, hidden, dense_graph) == objective.error(rows, hidden, dense_graph)
    assert objective.error(rows.roll(1, 0), hidden, dense_graph) != objective.error(rows, hidden, dense_graph)


@pytest.mark.parametrize("kind", DECODERS)
def test_every_decoder_trains(kind: str, graph: Graph) -> None:
    encoder, objective = model(graph, decoder=kind)
    parameters = [*encoder.parameters(), *objective.parameters()]
    optimiser, losses = torch.optim.Adam(parameters, lr=0.02), []
    for number in range(40):
        loss = objective(step_of(graph, encoder, MaskNodes(0.5), seed=number)).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
    assert all(parameter.grad is not None for parameter in parameters)
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("encoder_kind", [GraphAttention, GraphConvolution, GraphIsomorphism])
@pytest.mark.parametrize("density", [0.05, 0.9])
def test_mixed_precision_stays_near_full_precision(kind: str, encoder_kind: type[GraphEncoder], density: float) -> None:
    graph = random_graph(40, 60, density=density).to(dtype=torch.float32)
    torch.manual_seed(0)
    encoder, objective = encoder_kind(60, hidden=8, input_dropout=0.0), prepared(MaskedFeatures(8, decoder=kind, input_dropout=0.0), 60)
    encoder.eval(), objective.eval()
    step = step_of(graph, encoder, MaskNodes(0.5, replace_rate=0.2))
    full = objective(step).total
    step.memo.clear()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = objective(step).total
    mixed.backward()
    assert abs(mixed.item() - full.item()) < 0.05
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters() if parameter.grad is not None)


def test_layers_side_by_side(graph: Graph) -> None:
    encoder, objective = model(graph, concat_hidden=2)
    assert objective.map.weight.shape == (4, 8)
    step = step_of(graph, encoder.eval(), MaskNodes(0.5))
    view, clean = step.views
    wanted = objective.eval().error(torch.cat(step.encode(view).layers, 1), view.mask.hidden, clean.data)
    assert objective(step)["reconstruction"] == wanted


def test_coras_objective_has_the_published_number_of_parameters() -> None:
    objective = prepared(MaskedFeatures(512), 1433)
    counts = [sum(parameter.numel() for parameter in module.parameters()) for module in (objective.map, objective.decoder)]
    assert counts == [262_144, 737_995]
    total = sum(parameter.numel() for module in (objective, GraphAttention(1433)) for parameter in module.parameters())
    assert total == 2_000_486


def test_views_give_what_the_objective_needs() -> None:
    check_needs(MaskedFeatures, MaskNodes(target=False).gives, views="MaskNodes")
    for other in (MaskTokens, MaskRows):
        with pytest.raises(UserError, match="MaskedFeatures needs a graph as a view's data \\(there it is a tensor\\)"):
            check_needs(MaskedFeatures, other.gives, views=other.__name__)


def test_settings_out_of_range_are_refused_before_any_data_is_seen() -> None:
    with pytest.raises(UserError, match="alpha must be at least 1"):
        MaskedFeatures(4, alpha=0.5)
    for rate in ("input_dropout", "attention_dropout"):
        with pytest.raises(UserError, match=f"{rate} must lie in"):
            MaskedFeatures(4, **{rate: 1.0})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_decoder_is_made_from_the_target_and_is_part_of_the_state(graph: Graph, dtype: torch.dtype) -> None:
    graph = graph.to(dtype=dtype)
    one, other = (MaskedFeatures(4, decoder="gin").to(dtype) for _ in range(2))
    assert not any(name.startswith("decoder") for name, _ in one.named_parameters())
    views = MaskNodes(0.5)(Batch(graph, rows=graph.num_nodes), Draws.seeded(0, total=graph.num_nodes))
    for objective in (one, other):
        objective.prepare(views, samples=graph.num_nodes)
    assert one.decoder.weight.shape == (graph.num_features, 4)
    assert one.decoder.weight.dtype == dtype
    assert not torch.equal(one.decoder.weight, other.decoder.weight)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.decoder.weight, other.decoder.weight)


def test_ten_epochs_on_cora_reach_the_loss_of_the_public_implementations(cora: GraphSource) -> None:
    torch.manual_seed(0)
    encoder, objective = GraphAttention(1433), prepared(MaskedFeatures(512), 1433)
    optimiser = torch.optim.Adam([*encoder.parameters(), *objective.parameters()], lr=1e-3, weight_decay=2e-4)
    for number in range(10):
        loss = objective(step_of(cora.graph, encoder, MaskNodes(0.5, replace_rate=0.05), seed=number)).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert abs(float(loss) - 0.537) < 0.01
