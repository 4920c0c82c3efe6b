"""The part of CommonMark that descriptions use, and nothing that is HTML."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.asyncapi.pages.markup import Markup, join, tag, text
from moda.asyncapi.pages.prose import block, line


@pytest.mark.parametrize(
    ("source", "html"),
    [
        ("one\ntwo\n\nthree", "<p>one\ntwo</p><p>three</p>"),
        ("a `b<c` d", "<p>a <code>b&lt;c</code> d</p>"),
        ("``a`b``", "<p><code>a`b</code></p>"),
        ("**bold** and *soft*", "<p><strong>bold</strong> and <em>soft</em></p>"),
        ("2 * 3 * 4, a*b*c", "<p>2 * 3 * 4, a*b*c</p>"),
        ("- a\n- b\n  more", "<ul><li>a</li><li>b more</li></ul>"),
        ("1. a\n2. b", "<ol><li>a</li><li>b</li></ol>"),
        ("intro:\n- a", "<p>intro:</p><ul><li>a</li></ul>"),
        ("# Title #\ntext", "<p><strong>Title</strong></p><p>text</p>"),
        ("```js\na < b\n```\nafter", '<pre class="code"><code>a &lt; b</code></pre><p>after</p>'),
        ("```\nnever closed", '<pre class="code"><code>never closed</code></pre>'),
        (
            "see https://x.org/a.",
            '<p>see <a href="https://x.org/a" rel="noreferrer noopener">https://x.org/a</a>.</p>',
        ),
        ("[up](#top)", '<p><a href="#top" rel="noreferrer noopener">up</a></p>'),
        ("[x](javascript:y)", "<p>[x](javascript:y)</p>"),
        ("<b>&amp;</b>", "<p>&lt;b&gt;&amp;amp;&lt;/b&gt;</p>"),
    ],
)
def test_blocks(source: str, html: str) -> None:
    assert block(source) == html


def test_nothing_is_nothing() -> None:
    assert block(None) is None
    assert block("  \n ") is None
    assert line("") is None


def test_a_line_has_no_breaks() -> None:
    assert line("one\n  `two`\n") == "one <code>two</code>"


@given(st.text("ab `*[](){}#-\n1.<>&\"'~|:/h t p s", max_size=80))
def test_any_text_is_rendered_without_a_tag_of_its_own(source: str) -> None:
    html = block(source) or ""
    names = {part.split(">")[0].split(" ")[0].strip("/") for part in html.split("<")[1:]}
    assert names <= {"p", "code", "pre", "strong", "em", "a", "ul", "ol", "li"}


def test_text_is_escaped_and_markup_is_not_escaped_again() -> None:
    assert tag("p", "<b>", Markup("<i></i>"), 5, None) == "<p>&lt;b&gt;<i></i>5</p>"
    assert join([text("&"), "<"], " & ") == "&amp; &amp; &lt;"


def test_attributes_are_quoted_and_the_absent_ones_left_out() -> None:
    assert tag("input", type="x", value="\"'<", hidden=True, class_=None, data_a=False) == (
        '<input type="x" value="&quot;&#x27;&lt;" hidden>'
    )
