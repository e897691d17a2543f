"""Completion of words in a shell: commands, options, stages, methods, their parameters, settings and presets."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterable, Mapping

from harness.cells.settings import Settings
from harness.cli.session import Session
from harness.data.stages import STAGES
from harness.registry.presets import GROUPS, presets
from harness.registry.registry import Registry
from harness.util.errors import HarnessError, unknown

LAUNCHER = "hydra/launcher"

# The shell calls `harness completion words LINE` with the line up to the cursor. Bash splits words at `=` and `:`, and
# replaces only what follows; zsh and fish replace the whole word.
SCRIPTS: Mapping[str, str] = {
    "bash": r"""
_harness() {
    local line="${COMP_LINE:0:COMP_POINT}" word
    word="${line##* }"
    mapfile -t COMPREPLY < <(harness completion words "$line" 2>/dev/null)
    if [[ "$word" == *=* && "$COMP_WORDBREAKS" == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*=}"}"}")
    fi
    [[ "${COMPREPLY[0]}" == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -o default -F _harness harness
""",
    "zsh": r"""
#compdef harness
_harness() {
    local -a found
    found=("${(@f)$(harness completion words "${words[1,CURRENT]}" 2>/dev/null)}")
    compadd -Q -S '' -- $found
}
compdef _harness harness
""",
    "fish": r"""
complete -c harness -f -a '(harness completion words (commandline -cp | string collect) 2>/dev/null)'
""",
}


def completion(arguments: Namespace) -> int:
    """Print the script of a shell; or, for that script, the words that can follow a line."""
    words = arguments.words
    if words[:1] == ["words"]:
        for candidate in candidates(" ".join(words[1:])):
            print(candidate)
        return 0
    if len(words) != 1:
        raise HarnessError("completion takes the name of a shell.", 'Example: eval "$(harness completion bash)"')
    if words[0] not in SCRIPTS:
        raise unknown("shell", words[0], SCRIPTS)
    print(SCRIPTS[words[0]].strip())
    return 0


def candidates(line: str) -> list[str]:
    """The words that the last word of a line can become. Errors: those of the line's options and plugins."""
    from harness.cli.main import COMMANDS, parser_of

    _, *words = line.split(" ")
    *before, word = words or [""]
    name, *given = [text for text in before if text] or [""]
    if name not in COMMANDS:
        return [] if name else _starting(word, COMMANDS)
    parser = parser_of(name)
    if word.startswith("-"):
        return _starting(word, [option for action in parser._actions for option in action.option_strings])
    arguments, _ = parser.parse_known_args(given)
    methods = Session.open(Namespace(**vars(arguments), overrides=[], own=[])).registry
    if not COMMANDS[name].configured:
        named = [text for text in arguments.words if "=" not in text]
        return _starting(word, [*_names(name, named, methods), "workspace="])
    if "=" in word:
        key, value = word.split("=", 1)
        earlier = re.match(r"(?:.*[\[,])?", value)
        assert earlier is not None
        return _starting(word, [f"{key}={earlier[0]}{option}" for option in _options(key, methods)])
    return _starting(word, _keys(arguments.words, methods) if "." in word else _first_keys())


def _names(command: str, named: list[str], methods: Registry) -> list[str]:
    """What a command's own words can be, after those that are named already."""
    match command, named:
        case ("list", _) | ("show", []):
            return [*STAGES, *GROUPS]
        case ("show", [stage]):
            return _options(stage, methods)
        case ("new-plugin", []):
            return list(STAGES)
        case ("check", _):
            return [name for _, name in methods.methods]
        case ("completion", []):
            return list(SCRIPTS)
        case ("cache", []):
            return ["show", "prune"]
    return []


def _first_keys() -> list[str]:
    return [f"{key}=" for key in (*STAGES, *GROUPS, *Settings.__dataclass_fields__, "batch@contrast", LAUNCHER)]


def _keys(words: list[str], methods: Registry) -> list[str]:
    """Parameters: those of the chosen method of a stage, or of all its methods where none is named."""
    chosen = dict(word.split("=", 1) for word in words if "=" in word)
    keys = []
    for (stage, name), method in methods.methods.items():
        if STAGES[stage].many:
            keys += [f"{stage}.{name}.{parameter}=" for parameter in method.parameters]
        elif chosen.get(stage, name) == name:
            keys += [f"{stage}.{parameter}=" for parameter in method.parameters]
    return keys


def _options(key: str, methods: Registry) -> list[str]:
    """The methods and presets that a key chooses from; empty for other keys."""
    group = key.partition("@")[0]
    if group not in STAGES and group not in GROUPS and group != LAUNCHER:
        return []
    return [*methods.names(group), *(preset.name for preset in presets(group, methods))]


def _starting(word: str, options: Iterable[str]) -> list[str]:
    return sorted({option for option in options if option.startswith(word)})
