"""The first screen of a report: title, question, and what this run found.

All of it is taken from the outputs of the executed notebook: headlines, claims, and the figure or table that was shown
with ``story=True``. Of a notebook that failed, what it came to.
"""

import copy

from bs4 import BeautifulSoup, Tag

_ORDER = ("fails", "open", "holds")


def add_summary(soup: BeautifulSoup) -> None:
    """Put below a report's question what its run found, in place; nothing where it shows no such outputs."""
    main = soup.select_one("main")
    headlines, story = soup.select(".outputs dl.headlines"), soup.select_one(".outputs .story")
    claims = soup.select(", ".join(f".outputs p.claim.{kind}:has(.mark):has(.verdict)" for kind in _ORDER))
    if main is None or not (headlines or story or claims):
        return
    summary = _tag(soup, "section", {"class": "summary", "aria-labelledby": "found"})
    summary.append(_tag(soup, "h2", {"id": "found"}, "What this run found"))
    if headlines:
        together = _tag(soup, "dl", {"class": "headlines"})
        for headline in headlines:
            shown = headline.find_parent(class_="outputs")
            together.extend(headline.extract().find_all("div", recursive=False))
            if shown is not None and not shown.find(True):
                shown.decompose()  # nothing else is in it
        summary.append(together)
    columns = _tag(soup, "div", {"class": "columns"})
    if story is not None:
        columns.append(_story(soup, story))
    if claims:
        columns.append(_claims(soup, claims))
    summary.append(columns)
    _place(soup, main, summary)


def _place(soup: BeautifulSoup, main: Tag, summary: Tag) -> None:
    """Put the summary below title and question, which stand in the first section of prose; at the top without them."""
    title = main.select_one(".prose h1")
    if title is None:
        banner = main.select_one(".banner")
        (banner.insert_after if banner is not None else lambda tag: main.insert(0, tag))(summary)
        return
    rest = title.find_parent("section")
    lead = _tag(soup, "section", {"class": "prose lead"})
    question = title.find_next_sibling()
    lead.append(title.extract())
    if question is not None and question.name == "p":
        lead.append(question.extract())
    if rest is not None:
        rest.insert_before(lead)
        lead.insert_after(summary)


def _story(soup: BeautifulSoup, story: Tag) -> Tag:
    """Return a copy of what tells the story, with a link to the section that it belongs to."""
    shown = _tag(soup, "div", {"class": "told"})
    shown.append(copy.copy(story))
    heading = story.find_previous(["h2", "h3", "h4"], id=True)
    if heading is not None:
        line = _tag(soup, "p", {"class": "from"}, "From ")
        line.append(_tag(soup, "a", {"href": f"#{heading['id']}"}, heading.get_text().removesuffix("#")))
        shown.append(line)
    return shown


def _claims(soup: BeautifulSoup, claims: list[Tag]) -> Tag:
    """Return the claims as a list of links, those that do not hold first, with how many there are of each kind."""
    found: list[tuple[int, Tag]] = []
    for number, claim in enumerate(claims, 1):
        kind = next(kind for kind in _ORDER if kind in claim["class"])
        claim["id"] = f"claim-{number}"
        item = _tag(soup, "li", {"class": f"claim {kind}"})
        said = copy.copy(claim)
        mark, verdict = (said.select(f".{part}")[0].extract() for part in ("mark", "verdict"))
        item.extend([mark, " ", _tag(soup, "a", {"href": f"#claim-{number}"}, said.get_text().strip())])
        if kind == "holds":
            item.append(_tag(soup, "span", {"class": "hidden"}, ": holds"))
        else:
            item.extend([" ", verdict])
        found.append((_ORDER.index(kind), item))
    count = [sum(order == i for order, _ in found) for i in range(3)]
    words = [f"{count[2]} of {count[2] + count[0]} claims hold here"] if count[0] + count[2] else []
    words += [f"{count[1]} not judged"] if count[1] else []
    box = _tag(soup, "div", {"class": "claims", "tabindex": "0", "role": "group", "aria-label": "Claims"})
    box.append(_tag(soup, "p", {"class": "count"}, ", ".join(words)))
    items = _tag(soup, "ul", {})
    items.extend([item for _, item in sorted(found, key=lambda pair: pair[0])])
    box.append(items)
    return box


def _tag(soup: BeautifulSoup, name: str, attributes: dict[str, str], text: str = "") -> Tag:
    made = soup.new_tag(name, attrs=attributes)
    if text:
        made.string = text
    return made
