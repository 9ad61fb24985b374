"""PURE: what load will be. Samples in, forecasts with an interval out, and a score of each against what then
happened.

`horizons` says how far ahead and how finely; `history` keeps the past of many series on a regular grid;
`models` are the forecasters behind one interface, each over all series at once; `scoring` holds each of them
against the naive one; `grid` is all of that for one horizon, and `bank` for all of them. Arrays have time
first and the series last. Time is a number of steps, which is an argument.
"""
