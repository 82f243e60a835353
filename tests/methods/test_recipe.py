import pytest
from hypothesis import given
from hypothesis import strategies as st

from carsam.errors import UserError
from carsam.families import FAMILIES
from carsam.methods.recipe import Bits, Recipe, Rule
from carsam.methods.registry import idle_steps, make_recipe, make_steps

bits = st.one_of(st.none(), st.integers(2, 8))


@given(bits, bits)
def test_bits_read_what_they_print(weights, activations):
    value = Bits(weights, activations)
    assert Bits.parse(str(value)) == value


@pytest.mark.parametrize("text", ["w4", "4a4", "w4a4x", "", "w1a4", "w4a9"])
def test_bits_that_make_no_sense_are_refused(text):
    with pytest.raises(ValueError, match=r"bits|Bits"):
        Bits.parse(text)


def test_the_last_fitting_rule_wins():
    recipe = make_recipe("rtn", "w4a4", ("encoder.*=w8a8", "*.layers.0.*=w6a6"))
    assert recipe.bits_of("vision_encoder.layers.0.mlp.lin1", "encoder.mlp") == Bits(6, 6)
    assert recipe.bits_of("vision_encoder.layers.1.mlp.lin1", "encoder.mlp") == Bits(8, 8)


def test_exceptions_of_the_papers_are_float_by_default():
    recipe = make_recipe("rtn", "w4a4")
    assert recipe.bits_of("mask_decoder.upscale_conv1", "decoder.mask_upscaling") == Bits(
        None, None
    )


def test_a_recipe_comes_back_from_its_dictionary():
    recipe = make_recipe("rtn", "w4a8", ("encoder.mlp=w8a8",), ("round-to-nearest.weights=minmax",))
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_unknown_keys_of_a_recipe_are_refused():
    with pytest.raises(ValueError, match="unknown keys: stpes"):
        Recipe.from_dict({**make_recipe("rtn", "w4a4").to_dict(), "stpes": []})


@pytest.mark.parametrize("text", ["encoder.mlp", "=w4a4", "encoder.mlp=4"])
def test_rules_that_make_no_sense_are_refused(text):
    with pytest.raises(ValueError, match="not understood"):
        Rule.parse(text)


def test_a_setting_reaches_the_step():
    recipe = make_recipe("rtn", "w4a4", settings=("round-to-nearest.activations=percentile",))
    assert make_steps(recipe)[0].activations == "percentile"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("nonsense", "write step.parameter=value"),
        ("polish.weights=mse", 'has no step "polish"'),
        ("round-to-nearest.wieghts=mse", "has no parameter wieghts"),
        ("round-to-nearest.weights=best", "Observer best is not known"),
        ("round-to-nearest.rounds_weights=1", "rounds_weights .* is 1; expected true or false"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make_recipe("rtn", "w4a4", settings=(settings,))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("reconstruct.steps=many", "steps of step reconstruct is many; expected a whole number"),
        ("reconstruct.steps=2.5", "steps of step reconstruct is 2.5; expected a whole number"),
        ("reconstruct.steps=true", "steps of step reconstruct is True; expected a whole number"),
        ("reconstruct.keep=half", "keep of step reconstruct is half; expected a number"),
    ],
)
def test_values_of_another_type_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        make_recipe("qdrop", "w4a4", settings=(setting,))


@pytest.mark.parametrize(
    ("recipe", "setting", "expected"),
    [
        ("qdrop", "reconstruct.steps=0", "a whole number from 1 on"),
        ("qdrop", "reconstruct.keep=1.5", "a number from 0 to 1"),
        ("qdrop", "reconstruct.keep=nan", "a number from 0 to 1"),
        ("qdrop", "reconstruct.rounding_rate=-1", "a number from 0 on"),
        ("qdrop", "reconstruct.scale_rate=inf", "a number from 0 on"),
        ("qdrop", "reconstruct.encoder_share=-0.1", "a number from 0 to 1"),
        ("saqsam", "reconstruct.interaction=-1", "a number from 0 on"),
        ("saqsam", "perceptual-clipping.rounds=0", "a whole number from 1 on"),
        ("saqsam", "perceptual-clipping.focus=2", "a number from 0 to 1"),
        ("ptq4sam", "bimodal-integration.points=2", "a whole number from 3 to 4096"),
        ("ptq4sam", "adaptive-granularity.queries=0", "a whole number from 1 on"),
        ("ptq4sam", "adaptive-granularity.images=-1", "a whole number from 0 on"),
        ("ptq4sam", "adaptive-granularity.power=0", "a number above 0"),
        ("ahcptq", "channel-grouping.groups=257", "a whole number from 1 to 256"),
        ("ahcqsam", "reduce-condition.limit=0.5", "a number from 1 on"),
        ("ahcqsam", "reduce-condition.kept_energy=1.1", "a number from 0 to 1"),
        ("gptq", "feed-back-errors.damping=0", "a number above 0"),
        ("gptaq", "feed-back-errors.asymmetry=2", "a number from 0 to 1"),
        ("erq", "reduce-errors.penalty=-1", "a number above 0"),
        ("erq", "reduce-errors.flips=-1", "a whole number from 0 on"),
        ("ptq4vit", "twin-uniform.shifts=0", "a whole number from 1 to 32"),
        ("carsam-plus", "polish.steps=0", "a whole number from 1 on"),
    ],
)
def test_numbers_out_of_range_are_refused(recipe, setting, expected):
    name, value = setting.split("=")
    step, parameter = name.split(".")
    said = f"Parameter {parameter} of step {step} is {value}[.0]*; expected {expected}."
    with pytest.raises(UserError, match=said):
        make_recipe(recipe, "w4a4", settings=(setting,))


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "2,", "many", "true"])
def test_granularities_are_whole_numbers(value):
    with pytest.raises(UserError, match="write for example 1,2,4"):
        make_recipe("ptq4sam", "w4a4", settings=(f"adaptive-granularity.granularities={value}",))


def test_a_number_is_a_word_where_words_are_expected():
    settings = ("adaptive-granularity.granularities=2",)
    (_, _, softmax, _) = make_steps(make_recipe("ptq4sam", "w4a4", settings=settings))
    assert softmax.granularities == "2"


def test_training_of_nothing_is_refused():
    settings = ("reconstruct.trains_weights=false", "reconstruct.trains_scales=false")
    with pytest.raises(UserError, match="trains neither weights nor scales"):
        make_recipe("qdrop", "w4a4", settings=settings)


@pytest.mark.parametrize(
    ("recipe", "bits", "rules", "idle"),
    [
        ("ptq4sam", "w4a4", (), []),
        ("ptq4sam", "w4a32", (), ["bimodal-integration", "adaptive-granularity"]),
        (
            "ptq4sam",
            "w4a4",
            ("*_attention=float",),
            ["bimodal-integration", "adaptive-granularity"],
        ),
        ("ptq4sam", "w4a4", ("encoder.*=float",), []),
        ("erq", "w32a4", (), ["reduce-errors"]),
        ("gptq", "w4a32", (), []),
        ("saqsam", "w4a4", ("decoder.*=float",), ["perceptual-clipping"]),
        ("ptq4vit", "w4a4", ("*_attention=w4a32",), []),
    ],
)
def test_steps_whose_operands_stay_in_float_are_found(tiny_sam, recipe, bits, rules, idle):
    sites = FAMILIES["sam"].sites(tiny_sam)
    assert idle_steps(make_recipe(recipe, bits, rules), sites) == idle


def test_a_pattern_that_fits_no_attention_is_refused(tiny_sam):
    sites = FAMILIES["sam"].sites(tiny_sam)
    recipe = make_recipe("saqsam", "w4a4", settings=("perceptual-clipping.kinds=neck",))
    with pytest.raises(UserError, match=r"perceptual-clipping \(kinds=neck\) fits nothing"):
        idle_steps(recipe, sites)


def test_a_whole_number_is_a_number():
    (_, reconstruct) = make_steps(make_recipe("qdrop", "w4a4", settings=("reconstruct.keep=1",)))
    assert reconstruct.keep == 1


@pytest.mark.parametrize(
    "damage", [{"steps": None}, {"steps": [{"nme": "x"}]}, {"bits": 4}, {"rules": [5]}]
)
def test_a_damaged_recipe_is_refused(damage):
    with pytest.raises(UserError, match="The recipe is damaged"):
        Recipe.from_dict({**make_recipe("rtn", "w4a4").to_dict(), **damage})


def test_an_unknown_recipe_is_refused():
    with pytest.raises(ValueError, match="Recipe magic is not known"):
        make_recipe("magic", "w4a4")
