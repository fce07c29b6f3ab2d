"""A project with predictors of protocol ``stream`` that need busybox alone, for each engine.

Knows nothing of what is asked of them.
"""

from __future__ import annotations

from pathlib import Path

from tests.projects import Project, make_project

RECIPE = '''\
"""Predictors that live on, of busybox alone."""
from reprobuild import File, files, image, predictor, recipe

TEXT = {"inputs": {"text": str}, "outputs": {"text": str}, "scope": "item", "protocol": "stream"}

@recipe(version="1.0")
def copier():
    return image(
        files("root", to="/"),
        files("src", to="/app"),
        workdir="/app",
        predictors={
            "default": predictor("exec sh serve.sh", examples=[({"text": "abc"}, {"text": "abc"})], **TEXT),
            "marked": predictor("exec sh serve.sh {marker}", parameters={"marker": ""}, **TEXT),
            "online": predictor("wget -q -O - http://example.org/; exec cat", **TEXT),
            "batch": predictor("exec sh batch.sh", **{**TEXT, "scope": "batch"}),
            "missing": predictor("exec nothing", **TEXT),
            "numbered": predictor("exec sh numbered.sh", **TEXT),
            "once": predictor(
                ": {marker}; cp {input} {output}", parameters={"marker": ""}, **{**TEXT, "protocol": "files"}
            ),
            "file": predictor("exec sh file.sh", **{**TEXT, "inputs": {"path": File}}),
        },
    )
'''

SERVE = r"""
echo started >&2
while IFS= read -r line; do
    case "$line" in
        *die*) echo "it is bad" >&2; exit 9 ;;
        *abort*) kill -SEGV $$ ;;
        *leave*) sleep 1000 & exit 9 ;;
        *hang*) sleep 1000 ;;
        *greedy*) dd if=/dev/zero of=/dev/null bs=512M count=1 2>&1 || exit 9 ;;
        *twice*) printf '%s\n%s\n' "$line" "$line" ;;
        *unknown*) echo '{"_id":1234567,"text":""}' ;;
        *garbage*) printf 'garbage\n\377\000\n'; printf unended >&2; printf '%s\n' "$line" ;;
        *mute*) exec >&- 2>&-; sleep 1000 ;;
        *deaf*) exec <&-; sleep 1000 ;;
        *) printf '%s\n' "$line" ;;
    esac
done
"""

BATCH = r"""
while IFS= read -r count; do
    count=${count#*:}; count=${count%?}
    lines=
    while [ "$count" -gt 0 ]; do
        IFS= read -r line
        lines="$line
$lines"
        count=$((count - 1))
    done
    printf '%s' "$lines"
done
"""

NUMBERED = r"""
while IFS= read -r line; do
    number=${line#*:}; number=${number%%,*}
    printf '{"_id":%s,"text":"%s"}\n' "$number" "$number"
done
"""
"""Answers each record with the number that the process knows it by: those that it was given, from 0 up."""

FILE = r"""
echo started >&2
while IFS= read -r line; do
    number=${line#*:}; number=${number%%,*}
    path=${line#*\"path\":\"}; path=${path%%\"*}
    echo x 2> /dev/null >> "$path" && exit 1
    printf '{"_id":%s,"text":"%s"}\n' "$number" "$(cat "$path")"
done
"""


def make_streamed(folder: Path) -> Project:
    """Make the project, with the recipe locked."""
    project = make_project(folder)
    (project.recipe / "recipe.py").write_text(RECIPE)
    for name, text in (("serve", SERVE), ("batch", BATCH), ("file", FILE), ("numbered", NUMBERED)):
        (project.recipe / "src" / f"{name}.sh").write_text(text)
    project.call("lock", "copier")
    return project
