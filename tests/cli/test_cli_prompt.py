from __future__ import annotations

import json


def test_a_prompt_is_shown_as_a_model_would_see_it(command):
    result = command("prompt", "prp", "one text", "another", "--query", "why?")

    assert result.exit_code == 0
    assert 'Given a query "why?", which of the following two' in result.stdout
    assert 'Passage A: "one text"' in result.stdout
    assert result.stdout.endswith("--- assistant\nPassage\n")


def test_a_prompt_as_json_has_its_messages_and_targets(command):
    result = command("prompt", "monot5", "--json")

    answer = json.loads(result.stdout)
    assert answer["messages"] == [{"role": "plain", "content": "Query: what is a reranker? Document: text 1 Relevant:"}]
    assert answer["targets"] == ["true", "false"]


def test_what_cannot_be_shown_is_refused_in_one_line(refused):
    assert "no prompt is called 'rankgtp'; did you mean 'rankgpt'?" in refused("prompt", "rankgtp")
    assert "prompt 'prp' shows 2 documents, and 3 were given" in refused("prompt", "prp", "a", "b", "c")


def test_prompts_are_listed(command):
    assert "pairwise ranking prompting" in command("list", "prompts").stdout
