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


def test_the_prompt_of_a_method_and_of_a_checkpoint(command, refused):
    by_method = command("prompt", "prp-heapsort", "--json")
    by_checkpoint = command("prompt", "castorini/duot5-base-msmarco", "one", "two")

    assert json.loads(by_method.stdout)["prompt"] == "prp"
    assert by_checkpoint.stdout == "Query: what is a reranker? Document0: one Document1: two Relevant:\n"
    assert "method 'monobert' reads no prompt" in refused("prompt", "monobert")
    assert "reads no prompt" in refused("prompt", "bge-reranker-base")
    assert "is not on this machine; 'rerank models fetch" in refused("prompt", "prp", "--model", "bge-reranker-large")


def test_a_prompt_through_a_chat_template_is_what_the_model_reads(command, smollm):
    from transformers import AutoTokenizer

    result = command("prompt", "yes-no", "a text", "--model", smollm, "--json")

    content = "Passage: a text\nQuery: what is a reranker?\nDoes the passage answer the query? Answer 'Yes' or 'No'"
    said = [{"role": "user", "content": content}]
    written = AutoTokenizer.from_pretrained(smollm).apply_chat_template(
        said, tokenize=False, add_generation_prompt=True
    )
    assert json.loads(result.stdout)["text"] == written


def test_a_t5_reads_its_end_token_too(command, flan):
    assert command("prompt", "monot5", "a text", "--model", flan).stdout.endswith("Document: a text Relevant:</s>\n")
