"""LoRAs: any trainer's file to one form, how strongly each acts when, and putting them
on a model and taking them off again."""
