"""A pytest plugin: what hypothesis finds is not made smaller, which takes minutes and tells only a reader."""

from hypothesis import Phase, settings

settings.register_profile("no-shrinking", phases=[Phase.explicit, Phase.reuse, Phase.generate])
settings.load_profile("no-shrinking")
