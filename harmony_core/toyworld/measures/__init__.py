"""What a clip of the toy world shows and sounds like, measured from pixels and samples alone.

Nothing here looks at the scene that made a clip, so rendered and generated clips are measured alike. The world's
layout (where the floor is, how fast things fall, which colours exist) is taken as known; the classifiers are fitted,
when first called, on clips rendered from seeds of their own. Video is uint8 [F, 64, 64, 3], audio float32 [samples];
times are in seconds, and frame i stands for the moment i / fps.
"""
