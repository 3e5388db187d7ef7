"""How the page looks: theme, style sheet and the little script of the page."""

from __future__ import annotations

from pathlib import Path

from gradio.themes import Base, Color

HERE = Path(__file__).parent
STYLES = [HERE / "style.css", HERE / "lora.css"]
HEAD = f"<script>{(HERE / 'page.js').read_text(encoding='utf-8')}</script>"

TEAL = Color(
    c50="#effaf8",
    c100="#d6f2ed",
    c200="#aee4db",
    c300="#7dcfc4",
    c400="#4bb3a8",
    c500="#2d978d",
    c600="#1f7a73",
    c700="#1c625d",
    c800="#1a4e4b",
    c900="#18413f",
    c950="#0a2726",
)
INK = Color(
    c50="#f7f8f8",
    c100="#eef0f1",
    c200="#e1e4e7",
    c300="#cbd0d5",
    c400="#98a1aa",
    c500="#6b7680",
    c600="#525c66",
    c700="#3a434c",
    c800="#22282e",
    c900="#171b20",
    c950="#101317",
)


def theme() -> Base:
    """Calm greys, one accent, the system's own fonts (nothing is fetched)."""
    made = Base(
        primary_hue=TEAL,
        secondary_hue=TEAL,
        neutral_hue=INK,
        radius_size="lg",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    )
    made.set(
        body_background_fill="#f4f6f6",
        body_background_fill_dark="*neutral_950",
        background_fill_primary_dark="*neutral_900",
        background_fill_secondary_dark="*neutral_950",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_padding="0",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_title_text_weight="550",
        block_title_text_size="*text_sm",
        block_title_text_color="*neutral_600",
        block_title_text_color_dark="*neutral_300",
        block_info_text_size="*text_xs",
        border_color_primary="*neutral_200",
        border_color_primary_dark="#2b3239",
        input_background_fill="white",
        input_background_fill_dark="#1c2127",
        input_border_color="*neutral_300",
        input_border_color_dark="#343c44",
        input_border_color_focus="*primary_500",
        input_border_color_focus_dark="*primary_500",
        input_border_width="1px",
        input_shadow_focus="0 0 0 3px rgb(45 151 141 / 0.18)",
        input_shadow_focus_dark="0 0 0 3px rgb(45 151 141 / 0.3)",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="#232930",
        button_secondary_background_fill_hover_dark="#2c343c",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="#3a434c",
        button_border_width="1px",
        button_border_width_dark="1px",
        slider_color="*primary_500",
        slider_color_dark="*primary_500",
    )
    return made
