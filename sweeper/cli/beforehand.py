"""Commands to run before a sweep: ``doctor`` checks what it needs, ``gallery`` shows its attacks."""

from pathlib import Path
from typing import Annotated

import typer

from search_spaces.loader import apply_overrides, read_preset
from sweeper.cli.screen import BAD_INPUT, console, one_sentence, say

DEFAULT_PRESET, ATTACKS_PRESET = "quick.yaml", "attacks_cpu.yaml"

app = typer.Typer()


@app.command(name="gallery")
def gallery_(
    data: Annotated[
        str | None, typer.Option(help="Images, e.g. folder:PATH, as data.source names them; default: the preset's.")
    ] = None,
    preset: Annotated[str, typer.Option(help="Preset whose attacks are drawn.")] = ATTACKS_PRESET,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a preset key, e.g. data.train_size=500; may be repeated."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Path of the picture (PNG).")] = Path("runs/gallery.png"),
) -> None:
    """Draw each attack's effect on an image, with the share of samples changed and how visible the change is."""
    from sweeper.gallery import show_attacks
    from sweeper.tracking.store import without_secret

    with one_sentence():
        changes = [*(set_ or []), *([] if data is None else [f"data.source={data}"])]
        content = apply_overrides(read_preset(preset), changes, preset)
        uri = show_attacks(content, preset, out, console)
    say(f"Written: {out}" if uri is None else f"Written: {out}, and to MLflow: {without_secret(uri)}")


@app.command()
def doctor(
    preset: Annotated[
        str, typer.Argument(help="Preset to check: its data is read, and one of its trials must fit on a host.")
    ] = DEFAULT_PRESET,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a preset key, e.g. data.train_size=500; may be repeated."),
    ] = None,
    storage: Annotated[
        str, typer.Option(envvar="SWEEPER_STORAGE", help="Folder or s3:// address for run folders.")
    ] = "runs",
    cluster: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Check the hosts of this cluster file instead, before ray up.")
    ] = None,
) -> None:
    """Check versions, GPUs, Ray, storage, tracking store and data, and print how to fix what fails."""
    ill = False
    with one_sentence():
        if cluster is None:
            from sweeper.doctor import examine
            from sweeper.preset.spec import validate
            from trainers.storage.object_store import place

            content = apply_overrides(read_preset(preset), set_ or [], preset)
            findings = examine(validate(content, preset), content, place(storage), console)
        else:
            from sweeper.cluster.ssh import examine_hosts

            findings = examine_hosts(cluster)
        for finding in findings:
            mark = "ok" if finding.fine else "NOT OK"
            remedy = f" -> {finding.remedy}" if finding.remedy else ""
            say(f"{mark:7}{finding.what}: {finding.found}{remedy}")
            for note in finding.notes:
                say(f"       {note}")
            ill = ill or not finding.fine
    if ill:
        raise typer.Exit(BAD_INPUT)
