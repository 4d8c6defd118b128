"""Tags of images: cleaning, vocabularies, token ids, and tags that give the class away."""

from fieldmark.data.tags.building import build_tag_vocabulary
from fieldmark.data.tags.cleaning import clean_tags, read_profanities
from fieldmark.data.tags.encoder import TagEncoder, check_tags
from fieldmark.data.tags.leaks import TagLeak, describe_tag_leaks, find_tag_leaks
from fieldmark.data.tags.vocabulary import TagVocabulary

__all__ = [
    "TagEncoder",
    "TagLeak",
    "TagVocabulary",
    "build_tag_vocabulary",
    "check_tags",
    "clean_tags",
    "describe_tag_leaks",
    "find_tag_leaks",
    "read_profanities",
]
