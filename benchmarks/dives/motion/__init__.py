"""The motion of a dive: kinematics of its number, the body, how it is executed.

Read in this order: kinematics, body, execution.
"""

__all__ = ["body", "execution", "kinematics"]
