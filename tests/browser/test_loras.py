"""LoRAs on the page, with the shipped demo model: found, stacked, kept, used."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from safetensors.torch import save_file

from engine.media.metadata import read_request
from tests.browser.conftest import Shoot
from tests.browser.driver import RunningApp, expect_status, generate

NAMES = (
    "evening.safetensors",
    "shapes/star.safetensors",
    "styles/toon/outlines.safetensors",
    "styles/wan_soft_light.safetensors",
)


SHIPPED = ("gem.safetensors", "night.safetensors")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[RunningApp]:
    """The app itself, whose first model is the demo model."""
    root = tmp_path / "root"
    write_loras(root / "loras" / "wan")
    running = RunningApp(root, "--no-download", module="wgp")
    running.start()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.stop()


def write_loras(folder: Path) -> None:
    """Random ones of the demo model's size, and one that is for another family."""
    torch.manual_seed(0)
    for name in NAMES:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        layers = [f"blocks.{n}.self_attn.{part}" for n in range(4) for part in "qkvo"]
        tensors = {}
        for layer in layers:
            tensors[f"diffusion_model.{layer}.lora_A.weight"] = torch.randn(4, 384) / 9
            tensors[f"diffusion_model.{layer}.lora_B.weight"] = torch.randn(384, 4) / 9
        save_file(tensors, file)
    about = {"activation text": "at night", "notes": "Everything is dark and blue."}
    (folder / "evening.json").write_text(json.dumps(about))
    Image.new("RGB", (200, 200), (24, 32, 90)).save(folder / "evening.png")
    (folder / "shapes" / "star.txt").write_text("A shape with five points.")
    other = "transformer_blocks.0.attn1.to_q"
    save_file(
        {
            f"transformer.{other}.lora_A.weight": torch.zeros(4, 384),
            f"transformer.{other}.lora_B.weight": torch.zeros(384, 4),
        },
        folder / "shapes" / "for_ltx.safetensors",
    )


def chosen(page: Page) -> Locator:
    return page.locator("#field-loras .lora")


def names(page: Page) -> list[str | None]:
    return [row.get_attribute("data-name") for row in chosen(page).all()]


def strength(page: Page, name: str) -> Locator:
    return page.get_by_label(f"Strength of {name}", exact=True)


def fill(page: Page, field: str, value: str) -> None:
    box = page.locator(f"#field-{field} input[type=number]")
    box.fill(value)
    box.blur()


def open_loras(page: Page) -> Locator:
    page.locator("#loras > button").click()
    page.get_by_role("button", name="Choose LoRAs").click()
    found = page.locator("#field-loras .found")
    expect(found.first).to_be_visible()
    return found


def stack_three(page: Page) -> None:
    """By a folder, by a search, and from the whole list."""
    found = page.locator("#field-loras .found")
    page.locator('.folders [data-folder="styles"]').click()
    expect(found).to_have_count(2)
    page.locator('.folders [data-folder="styles/toon"]').click()
    page.get_by_label("Add styles/toon/outlines.safetensors").click()
    page.locator('.folders [data-folder=""]').click()
    page.get_by_label("Search LoRAs").fill("five points")
    expect(found).to_have_count(1)
    page.get_by_label("Add shapes/star.safetensors").click()
    page.get_by_label("Search LoRAs").fill("")
    page.get_by_label("Add evening.safetensors").click()
    expect(chosen(page)).to_have_count(3)


def test_loras_are_found_stacked_kept_and_used(
    page: Page, app: RunningApp, shoot: Shoot
) -> None:
    found = open_loras(page)
    expect(found).to_have_count(len(NAMES) + len(SHIPPED) + 1)
    evening = page.locator('.found[data-name="evening.safetensors"]')
    expect(evening).to_contain_text("demo · LoRA, rank 4")
    expect(evening).to_contain_text("Trigger words: at night")
    expect(evening.locator("img")).to_be_visible()
    unfit = page.locator('.found[data-name="shapes/for_ltx.safetensors"]')
    expect(unfit).to_contain_text("doesn't fit Wan")
    expect(unfit.get_by_role("button")).to_have_count(0)
    shoot("browser")

    stack_three(page)
    strength(page, "evening.safetensors").fill("1,0.5,0")
    strength(page, "shapes/star.safetensors").fill("0.4")
    page.get_by_label("Use styles/toon/outlines.safetensors").uncheck()
    chosen(page).nth(2).get_by_title("Move up").click()
    page.locator(".words").get_by_text("Add to the prompt").click()
    prompt = page.locator("#field-prompt textarea")
    expect(prompt).to_have_value("at night")
    order = [NAMES[2], NAMES[0], NAMES[1]]
    assert names(page) == order
    page.get_by_role("button", name="Close the list").click()
    shoot("stacked")

    page.locator("#advanced > button").click()
    page.locator("#preset-name input, #preset-name textarea").fill("my night")
    page.get_by_role("button", name="Save preset").click()
    expect(page.locator("#preset input")).to_have_value("my night")
    shoot("saved")

    page.reload()
    expect(page.locator("#preset input")).to_be_visible()
    page.locator("#preset input").click()
    page.get_by_role("option", name="my night").click()
    expect(chosen(page)).to_have_count(3)
    assert names(page) == order
    expect(page.get_by_label(f"Use {order[0]}")).not_to_be_checked()
    expect(strength(page, "evening.safetensors")).to_have_value("1,0.5,0")
    expect(chosen(page).nth(1)).to_contain_text("Trigger words: at night")
    expect(prompt).to_have_value("at night")

    for field, value in (("width", "64"), ("height", "64"), ("num_frames", "5")):
        fill(page, field, value)
    fill(page, "num_inference_steps", "3")
    strength(page, "shapes/star.safetensors").fill("0.7")
    generate(page, "a red ball at night")
    expect_status(page, "a red ball at night", "done")
    shoot("made")
    (video,) = (app.root / "outputs").glob("*.mp4")
    request = read_request(video)
    assert [(lora.name, lora.multiplier) for lora in request.enabled_loras] == [
        (NAMES[0], "1,0.5,0"),
        (NAMES[1], 0.7),
    ]
    page.reload()
    expect(page.get_by_label(f"Use {order[0]}")).not_to_be_checked()
    assert names(page) == order


def test_a_wrong_schedule_is_marked_and_dragging_reorders(
    page: Page, shoot: Shoot
) -> None:
    open_loras(page)
    for name in NAMES[:3]:
        page.get_by_label(f"Add {name}").click()
    chosen(page).nth(2).drag_to(chosen(page).nth(0), source_position={"x": 12, "y": 18})
    assert names(page) == [NAMES[2], NAMES[0], NAMES[1]]
    strength(page, NAMES[0]).fill("1;;")
    page.locator("#field-prompt textarea").fill("a red ball")
    page.locator("#generate").click()
    expect(page.locator("#field-loras.invalid")).to_be_visible()
    problems = page.locator("#problems")
    expect(problems).to_contain_text("nothing in phase 2 of 3")
    expect(page.locator("#queue-rows .job")).to_have_count(0)
    shoot("refused")


def test_a_file_that_is_gone_is_named_with_the_closest(
    page: Page, tmp_path: Path, shoot: Shoot
) -> None:
    file = tmp_path / "request.json"
    loras = [{"name": "soft_light.safetensors", "multiplier": 0.6}]
    request = {"model": "wan-demo", "prompt": "a red ball", "loras": loras}
    file.write_text(json.dumps(request))
    page.locator("#restore > button").click()
    page.locator("#drop input[type=file]").set_input_files(file)
    trouble = page.locator("#field-loras .trouble")
    expect(trouble).to_contain_text(re.compile("soft_light.safetensors is not among"))
    shoot("missing")
    trouble.get_by_role("button", name=f"Use {NAMES[3]}").click()
    expect(trouble).to_have_count(0)
    assert names(page) == [NAMES[3]]
    expect(strength(page, NAMES[3])).to_have_value("0.6")
