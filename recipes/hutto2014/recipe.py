"""VADER: how positive, neutral and negative an English text is, by lexicon and rules."""

from reprobuild import apt, files, image, predictor, recipe, wheels

SCORES = ("neg", "neu", "pos", "compound")

# The sentences of VADER's README with the scores that it prints for them: text, neg, neu, pos, compound.
README = [
    ("VADER is smart, handsome, and funny.", 0.0, 0.254, 0.746, 0.8316),
    ("VADER is smart, handsome, and funny!", 0.0, 0.248, 0.752, 0.8439),
    ("VADER is very smart, handsome, and funny.", 0.0, 0.299, 0.701, 0.8545),
    ("VADER is VERY SMART, handsome, and FUNNY.", 0.0, 0.246, 0.754, 0.9227),
    ("VADER is VERY SMART, handsome, and FUNNY!!!", 0.0, 0.233, 0.767, 0.9342),
    ("VADER is VERY SMART, uber handsome, and FRIGGIN FUNNY!!!", 0.0, 0.294, 0.706, 0.9469),
    ("VADER is not smart, handsome, nor funny.", 0.646, 0.354, 0.0, -0.7424),
    ("The book was good.", 0.0, 0.508, 0.492, 0.4404),
    ("At least it isn't a horrible book.", 0.0, 0.637, 0.363, 0.431),
    ("The book was only kind of good.", 0.0, 0.697, 0.303, 0.3832),
    (
        "The plot was good, but the characters are uncompelling and the dialog is not great.",
        0.327,
        0.579,
        0.094,
        -0.7042,
    ),
    ("Today SUX!", 0.779, 0.221, 0.0, -0.5461),
    ("Today only kinda sux! But I'll get by, lol", 0.127, 0.556, 0.317, 0.5249),
    ("Make sure you :) or :D today!", 0.0, 0.294, 0.706, 0.8633),
    ("Catch utf-8 emoji such as \U0001f498 and \U0001f48b and \U0001f601", 0.0, 0.721, 0.279, 0.7003),
    ("Not bad at all", 0.0, 0.513, 0.487, 0.431),
]


@recipe(version="1.0")
def hutto2014():
    return image(
        apt("bookworm", "python3"),
        # The release whose scores its README prints; 3.3 changed the rules and the emoji.
        wheels("vaderSentiment==3.2.1"),
        files("src/run.py", to="/app/run.py"),
        workdir="/app",
        predictors={
            "default": predictor(
                "python3 run.py --input-file {input} --output-file {output}",
                inputs={"text": str},
                outputs=dict.fromkeys(SCORES, float),
                scope="item",
                examples=[
                    (
                        [{"text": text} for text, *_ in README],
                        [dict(zip(SCORES, scores, strict=True)) for _, *scores in README],
                    )
                ],
            ),
        },
    )
