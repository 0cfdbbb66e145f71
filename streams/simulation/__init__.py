"""Simulated API traffic: prose made by code and accounts of several kinds, everything from one seed."""

from streams.simulation.traffic import Account, Simulation, simulate

__all__ = ["Account", "Simulation", "simulate"]
