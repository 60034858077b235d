"""How complete, how faithful and how diverse a made set is."""
