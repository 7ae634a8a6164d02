"""``error_messages.readable``; how it reads in whole commands is tested in commands/test_fit.py."""

from sae_lightning.error_messages import readable


def test_other_messages_are_left_alone():
    assert readable("k=17: expected 1 to d_sae=16\nsecond line") == "k=17: expected 1 to d_sae=16\nsecond line"


def test_the_cause_of_a_union_is_found():
    message = """Does not validate against any of the Union subtypes
Subtypes: [<class 'a.Module'>, <class 'NoneType'>]
Errors:
  - d_in=0: expected 1 or more
  - Expected a <class 'NoneType'>
Given value type: <class 'jsonargparse._namespace.Namespace'>
Given value: Namespace(class_path='a.Module', init_args=Namespace(d_in=0))"""
    assert readable(message) == "d_in=0: expected 1 or more"
