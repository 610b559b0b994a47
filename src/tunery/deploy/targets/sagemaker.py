"""Amazon SageMaker: a real-time endpoint with AWS's container of vLLM."""

from __future__ import annotations

from datetime import date

from tunery.deploy.targets import Price, Target

TARGET = Target(
    title="an Amazon SageMaker endpoint",
    serves=True,
    machines={
        "ml.g5.2xlarge": Price(
            1.52, date(2026, 3, 15), "https://aws.amazon.com/sagemaker/ai/pricing (reported by wring.co)"
        ),
        "ml.g5.xlarge": Price(
            1.41, date(2025, 10, 1), "https://aws.amazon.com/sagemaker/ai/pricing (reported by zircon.tech)"
        ),
    },
    next_step="pip install boto3 && python deploy.py --bucket YOUR_BUCKET --role ROLE_ARN",
)
