/* model/arch/list.h: every architecture family, sorted; add a word here and a file NAME.c beside it. */
#define OZ_FAMILIES(X) X(llama) X(mistral) X(olmoe) X(qwen2) X(qwen3)
