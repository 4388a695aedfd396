"""The training of configs/project.yaml in plain Lightning, for callbacks and loggers of your own.

`make train` runs the same config with everything around it: exact resume, test scores, pictures.
"""

import pytorch_lightning as pl

import headcount


class PrintLoss(pl.Callback):
    """Print the validation loss. Replace it with what you need."""

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Print it after each validation."""
        loss = trainer.callback_metrics.get("validation/loss")
        print(f"step {trainer.global_step}: validation loss {loss:.3f}")


def main() -> None:
    """Train."""
    config = headcount.load_config("configs/project.yaml")
    data = headcount.build_data(config)
    module = headcount.build_module(config, data)
    trainer = pl.Trainer(
        max_steps=config.trainer["max_steps"],
        val_check_interval=config.trainer["val_check_interval"],
        check_val_every_n_epoch=None,
        callbacks=[PrintLoss()],
    )
    trainer.fit(module, data)


if __name__ == "__main__":
    main()
